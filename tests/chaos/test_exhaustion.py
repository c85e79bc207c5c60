"""What the machine runs out of: disk, file descriptors, and the right time.

One replica of a tiny model, which keeps no score, in a process of its own under the fault.
"""

import ast
import asyncio
import os
import resource
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
import psutil
import pytest
from known_scores import COMPUTING, add_ours, once, ours, truth_of
from scraped import value
from served_process import ServedProcess
from steady_callers import Callers, until

from plaudit.client import AsyncRewardClient

Promise = Callable[..., None]
ROOT = Path(__file__).parents[2]
HOUR, TEN_YEARS = 3600, 10 * 365 * 86_400
JUMPS = [HOUR, TEN_YEARS, -TEN_YEARS, -HOUR, 0]
# A server with a connection or two has some forty.
DESCRIPTORS = 96
# Dates that are shown, or compared with other clocks or a date: nothing waits for them.
DATES = {
    "plaudit/client/retry.py": "Retry-After may be a date",
    "service/bench/command.py": "when a measurement began",
    "service/compat/discovery.py": "created, of another format",
    "service/compat/vllm.py": "created, of another format",
    "service/doctor/limits.py": "whether the clock is set",
    "service/doctor/redis_round_trip.py": "whether the clock is that of Redis",
    "service/key_entry.py": "a key that expires does so at a date: it follows the jump",
    "service/monitoring/preview.py": "of which time Prometheus is asked",
    "service/origins.py": "since when a model is served",
    "service/swap_state.py": "when a swap began",
    "service/traces.py": "when a span began",
}


@contextmanager
def served(
    model: Path, *flags: str, under: tuple[str, ...] = (), said: Path = Path(os.devnull)
) -> Iterator[ServedProcess]:
    replica = ServedProcess([model], *COMPUTING, *flags, under=under, said=said)
    try:
        replica.wait()
        yield replica
    finally:
        replica.kill()


async def test_a_full_disk_loses_lines_of_the_log_and_nothing_else(
    tiny_checkpoint: Path, long: bool, promise: Promise
) -> None:
    """With a full disk under its log the server starts; when no file may grow by a byte it scores,
    counts the lines that it could not write, and ends with 0.
    """
    with served(tiny_checkpoint, said=Path("/dev/full")) as replica:
        resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, (0, 0))
        truth = truth_of(replica.url)
        async with AsyncExitStack() as stack:
            callers = await stack.enter_async_context(Callers(0.02))
            await add_ours(callers, replica.url, truth, stack)
            await callers.all_asked(2000 if long else 60)
            await callers.stop()
        async with httpx2.AsyncClient(base_url=replica.url) as client:
            lines = await value(client, "plaudit_log_lines_lost_total")
        assert replica.terminate() == 0
    assert lines >= callers.requests
    promise(callers.requests, int(lines), len(callers.lost), len(callers.wrong))


class JumpingClock:
    """The time of day of a process that is started ``under`` it."""

    def __init__(self, folder: Path):
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("cc is not installed: apt-get install gcc libc6-dev")
        library, self._file = folder / "jumping_clock.so", folder / "jumped_by"
        self.jump(0)
        source = ROOT / "tests" / "tiny" / "jumping_clock.c"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
        self.under = ("env", f"LD_PRELOAD={library}", f"JUMPED_BY={self._file}")

    def jump(self, seconds: int) -> None:
        """The offset to the true time, from now on."""
        with open(self._file, "r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))


async def test_no_jump_of_the_clock_is_seen_by_a_caller(
    tiny_checkpoint: Path, tmp_path: Path, long: bool, promise: Promise
) -> None:
    """The clock of the server jumps by an hour, by ten years and back: no deadline passes early, no
    score is lost or wrong, and it stays ready.
    """
    clock, jumps = JumpingClock(tmp_path), JUMPS * (12 if long else 1)
    with served(tiny_checkpoint, under=clock.under) as replica:
        truth = truth_of(replica.url)
        async with AsyncExitStack() as stack:
            callers = await stack.enter_async_context(Callers(0.02))
            await add_ours(callers, replica.url, truth, stack)
            client = httpx2.AsyncClient(base_url=replica.url, timeout=120)
            await stack.enter_async_context(client)
            callers.add("once", once(client), truth.rewards, 2)
            for seconds in jumps:
                clock.jump(seconds)
                await dated(client, seconds)
                await callers.all_asked(20)
                assert (await client.get("/readyz")).status_code == 200
            await callers.stop()
    assert not callers.lost
    promise(callers.requests, len(jumps), len(callers.lost), len(callers.wrong))


async def dated(client: httpx2.AsyncClient, seconds: int) -> None:
    """Return once the Date of an answer is off by as much."""

    async def is_dated() -> bool:
        date = (await client.get("/livez")).headers["date"]
        return abs(parsedate_to_datetime(date).timestamp() - time.time() - seconds) < HOUR / 2

    await until(is_dated)


def test_only_dates_are_read_off_the_clock_that_may_jump() -> None:
    """Deadlines, pauses and ages are of the monotonic clock, in the server and in the client."""
    files = [*(ROOT / "service").rglob("*.py"), *(ROOT / "plaudit" / "client").rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if reads_the_date(path)}
    assert found == set(DATES)


def reads_the_date(path: Path) -> bool:
    wall = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in wall
        for node in ast.walk(ast.parse(path.read_text()))
    )


async def test_without_a_descriptor_left_established_callers_are_still_answered(
    tiny_checkpoint: Path, long: bool, promise: Promise
) -> None:
    """More connections than the process may have: those that were there before are answered, the
    server does not spin, a client of ours that comes then gets its scores when there is room
    again, and so do probes.
    """
    limit, storms = f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", 20 if long else 1
    flags = ("--receive-seconds", "600")  # or it would close the idle ones by itself
    with served(tiny_checkpoint, *flags, under=("prlimit", limit, "--")) as replica:
        truth, process = truth_of(replica.url), psutil.Process(replica.pid)
        (text, reward), *_ = truth.rewards.items()
        async with AsyncExitStack() as stack:
            kept = httpx2.AsyncClient(base_url=replica.url, timeout=120)
            await stack.enter_async_context(kept)
            callers = await stack.enter_async_context(Callers())
            callers.add("established", once(kept), truth.rewards, 4)
            await callers.all_asked(4)
            client = await stack.enter_async_context(AsyncRewardClient(replica.url))
            wrong = 0
            for _ in range(storms):
                with idle(replica.url, 2 * DESCRIPTORS):
                    await until(uses_up(process))
                    late = asyncio.create_task(ours(client)(text))
                    before, began = process.cpu_times(), time.monotonic()
                    await callers.all_asked(24)
                    used = sum(process.cpu_times()[:2]) - sum(before[:2])
                    assert used < 0.9 * (time.monotonic() - began)  # scores are computed too
                wrong += await late != reward
                async with httpx2.AsyncClient(base_url=replica.url) as probe:
                    assert (await probe.get("/readyz")).status_code == 200
            await callers.stop()
        assert replica.terminate() == 0
    assert not callers.lost
    lost, wrong = len(callers.lost), len(callers.wrong) + wrong
    promise(callers.requests + storms, storms, lost, wrong)


@contextmanager
def idle(url: str, count: int) -> Iterator[None]:
    """Connections over which nothing is asked; the server may close them."""
    port = int(url.rpartition(":")[2])
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        yield


def uses_up(process: psutil.Process) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return process.num_fds() >= DESCRIPTORS - 2

    return holds
