"""A long mixed load: nothing grows.

Memory, file descriptors, tasks of the event loop and threads, as bench/soak.py measures them by
hand for an hour.
"""

import asyncio
import itertools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
from redis_process import RedisServer, serving_redis
from served_process import ServedProcess

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from soak import Soak, soak

from service.cache import CONNECTIONS

# The line through samples of ten seconds moves by a few megabytes with the allocator.
GROWN_BYTES = 16e6
# For which Redis is there, and then for which it is not.
EACH_SECONDS = 3.0


async def test_under_a_mixed_load_nothing_grows(
    members: list[Path], tmp_path: Path, long: bool, promise: Callable[..., None]
) -> None:
    """Scores, ensembles, cached and fresh, nonsense, callers that hang up, and a Redis that goes
    and comes: every request is answered, and afterwards no task, no thread and no descriptor is
    left over, and memory has not grown by more than 16 MB.
    """
    with serving_redis(tmp_path, "--save", "") as redis:
        flags = ("--redis-url", redis.url, "--cache-megabytes", "0.1", "--ensemble")
        replica = ServedProcess(members[:2], *flags, "--deterministic", "--log-level", "warning")
        try:
            replica.wait()
            process = psutil.Process(replica.pid)
            async with httpx2.AsyncClient(base_url=replica.url, timeout=120) as client:
                soaking = Soak(client, process, members[0].name)
                over = asyncio.Event()
                toggling = asyncio.create_task(toggle(redis, over))
                result = await soak(soaking, 210 if long else 12)
                over.set()
                toggles = await toggling
            assert replica.terminate() == 0
        finally:
            replica.kill()
    assert not soaking.lost
    before, after = result.before, result.after
    assert after.tasks <= before.tasks
    assert after.descriptors <= before.descriptors + CONNECTIONS  # to Redis, kept open
    assert after.threads <= before.threads + (os.cpu_count() or 1) + 4  # those of the loop's pool
    assert result.grown < GROWN_BYTES
    promise(
        soaking.asked.total(), toggles + soaking.asked["hang_up"], len(soaking.lost), soaking.wrong,
        grown_megabytes=round(result.grown / 1e6, 2), tasks_left=after.tasks - before.tasks,
        descriptors_left=after.descriptors - before.descriptors,
        threads_left=after.threads - before.threads,
    )  # fmt: skip


async def toggle(redis: RedisServer, over: asyncio.Event) -> int:
    """Kill it and bring it back, until ``over``; how often."""
    for times in itertools.count():
        for change in (redis.kill, redis.start):
            if over.is_set():
                return times
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), EACH_SECONDS)
            await asyncio.to_thread(change)
    raise AssertionError
