"""A Redis that is killed, frozen, slow, cut off, full, read-only, lying or locked.

A real ``plaudit serve`` without a cache of its own, so that every item is looked up in a real
redis-server, through a proxy that does harm. Steady traffic checks every score to its last bit.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest
import redis_faults
from redis_faults import PASSWORD, TIMEOUT_MS, Fault, Place, harmed
from redis_process import serving_redis
from spawned import wait_for
from steady_traffic import Counted, SteadyTraffic, pool
from tcp_proxy import proxy_to

from service.cache import CONNECTIONS, RedisCache
from service.metrics import Metrics
from training.service_process import serving

CALLERS = 3
FAULT_REQUESTS = 60


@pytest.fixture(scope="module")
def place(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("redis")
    rng = Random(pytestconfig.getoption("seed"))
    with ExitStack() as held:
        server = held.enter_context(serving_redis(folder, "--save", ""))
        proxy = held.enter_context(proxy_to(server.port, Random(rng.random())))
        proxy.set(refusing=True)
        flags = [
            *("--redis-url", f"redis://plaudit:{PASSWORD}@127.0.0.1:{proxy.port}/0"),
            *("--redis-timeout-ms", str(TIMEOUT_MS), "--cache-secret", "of all replicas"),
            *("--cache-megabytes", "0", "--deterministic", "--threads", "1"),
            *("--device", "cpu", "--dtype", "float32"),
        ]
        url = held.enter_context(serving(tiny_checkpoint, folder / "serve.log", *flags))
        traffic = SteadyTraffic(url, pool(rng, 150), rng, CALLERS)
        traffic.learn()  # Redis refuses: what is learnt was computed
        found = Place(url, server, proxy, traffic, rng)
        found.allow()
        proxy.set()
        yield found


def survive(place: Place, fault: Fault, notice: Callable[[], bool]) -> dict[str, float]:
    """Traffic before, under and after a fault, until it was noticed, and until scores come from
    Redis again; what ``promise`` wants to know."""
    with place.traffic.flowing() as counted:
        used_again(place)
        before = len(counted.seconds)
        with fault(place):
            wait_for("the fault to be noticed", notice)
            asked = counted.requests
            wait_for("requests under the fault", lambda: counted.requests > asked + FAULT_REQUESTS)
        slow = len(counted.seconds)
        used_again(place)
    assert not counted.failed, counted.failed[:3]
    assert not counted.wrong, counted.wrong[:3]
    return figures(counted) | {"added_over_timeout": added(counted, before, slow)}


def figures(counted: Counted) -> dict[str, float]:
    failed, wrong = len(counted.failed), len(counted.wrong)
    return {"requests": counted.requests, "lost": failed, "wrong": wrong}


def added(counted: Counted, begin: int, end: int) -> float:
    """What the slowest answers (p99) under the fault took longer than the median before it, in
    timeouts: a request reads once and writes once."""
    usual = sorted(counted.seconds[:begin])[begin // 2]
    slow = sorted(counted.seconds[begin:end])
    return round((slow[int(0.99 * (len(slow) - 1))] - usual) * 1000 / TIMEOUT_MS, 2)


def used_again(place: Place) -> None:
    """The breaker is closed and scores come from Redis."""
    hits = place.lookups("hit")
    wait_for("hits", lambda: place.lookups("hit") > hits and not place.left_alone())


def lost_for_a_while(place: Place, fault: Fault) -> dict[str, float]:
    """A fault that opens the breaker: all else as ``survive``, and Redis is hardly tried."""
    tries: list[float] = []

    @contextmanager
    def watched(place: Place) -> Iterator[None]:
        with fault(place):
            began = time.monotonic()
            yield
            tries.append(place.tries())
            tries.append(time.monotonic() - began)

    at_first: list[float] = []

    def noticed() -> bool:
        if not place.left_alone():
            return False
        at_first.append(place.tries())
        return True

    found = survive(place, watched, noticed)
    end, seconds = tries
    # One try for each rest of 2 s, besides those that were on their way.
    assert end - at_first[-1] <= seconds / 2 + 1 + 2 * CALLERS
    return found


def misses_for_a_while(
    place: Place, fault: Fault, counter: Callable[[], float]
) -> dict[str, float]:
    """A fault that leaves the breaker closed: scores that are still there are used, and what goes
    wrong is counted."""
    before: list[float] = []

    @contextmanager
    def watched(place: Place) -> Iterator[None]:
        before.append(counter())
        with fault(place):
            yield
            used_again(place)

    return survive(place, watched, lambda: counter() > before[0])


def test_killed(place: Place, promise) -> None:
    """A Redis that is killed and comes back empty fails no request; it is left alone meanwhile."""
    promise(faults=1, **lost_for_a_while(place, redis_faults.killed))


def test_frozen(place: Place, promise) -> None:
    """A Redis that is stopped (SIGSTOP) fails no request; after three time-outs one try in two
    seconds finds out when it goes on."""
    promise(faults=1, **lost_for_a_while(place, redis_faults.frozen))


def test_paused(place: Place, promise) -> None:
    """A Redis that takes connections and answers nothing (CLIENT PAUSE) fails no request."""
    promise(faults=1, **lost_for_a_while(place, redis_faults.paused))


def test_too_slow(place: Place, promise) -> None:
    """A Redis that takes longer than --redis-timeout-ms fails no request and is left alone."""
    promise(faults=1, **lost_for_a_while(place, redis_faults.SLOW))


def test_slow(place: Place, promise) -> None:
    """A slow Redis, quicker than --redis-timeout-ms, is used: it delays requests and no more."""
    asked = place.tries()
    # Of a new connection the password's answer and the first command's must both fit.
    slow = harmed(delay_seconds=0.35 * TIMEOUT_MS / 1000)
    promise(faults=1, **misses_for_a_while(place, slow, lambda: place.tries() - asked))


def test_cut(place: Place, promise) -> None:
    """Connections that end in the middle of a reply fail no request and mix up no scores."""
    promise(faults=1, **lost_for_a_while(place, redis_faults.CUT))


def test_another_password(place: Place, promise) -> None:
    """A password that is changed in Redis fails no request; with the old one back, hits are."""
    promise(faults=1, **lost_for_a_while(place, redis_faults.another_password))


def test_no_more_connections(place: Place, promise) -> None:
    """A Redis at its limit of connections (maxclients) fails no request."""
    promise(faults=1, **lost_for_a_while(place, redis_faults.no_more_connections))


def test_full(place: Place, promise) -> None:
    """A Redis that is full and evicts nothing (OOM) is still read; what it refuses is counted."""
    refused = lambda: place.stores("error")  # noqa: E731
    promise(faults=1, **misses_for_a_while(place, redis_faults.full, refused))


def test_read_only(place: Place, promise) -> None:
    """A replica that takes no writes (READONLY) is still read; what it refuses is counted."""
    refused = lambda: place.stores("error")  # noqa: E731
    promise(faults=1, **misses_for_a_while(place, redis_faults.read_only, refused))


def test_no_right_to_read(place: Place, promise) -> None:
    """A user who loses the right to read (NOPERM) fails no request."""
    errors = place.lookups("error")
    noticed = lambda: place.lookups("error") > errors  # noqa: E731
    promise(faults=1, **survive(place, redis_faults.no_right_to_read, noticed))


def test_emptied(place: Place, promise) -> None:
    """A Redis that is emptied again and again (FLUSHALL) fails no request."""
    misses = place.lookups("miss")
    noticed = lambda: place.lookups("miss") > misses  # noqa: E731
    promise(faults=1, **survive(place, redis_faults.emptied, noticed))


def test_flipped(place: Place, promise) -> None:
    """Replies with flipped bits, in values and in what frames them, give no wrong score."""
    flips = place.proxy.done.flips
    noticed = lambda: place.proxy.done.flips > flips + 20  # noqa: E731
    found = survive(place, redis_faults.flipped, noticed)
    promise(faults=place.proxy.done.flips - flips, **found)


def test_lying(place: Place, promise) -> None:
    """Values that are flipped, cut, of another key, of another secret, pickles or of other types
    are misses, counted as corrupt, and overwritten: none becomes a score."""
    corrupt = place.lookups("corrupt")
    noticed = lambda: place.lookups("corrupt") > corrupt + 50  # noqa: E731
    found = survive(place, redis_faults.lying, noticed)
    promise(faults=int(place.lookups("corrupt") - corrupt), **found)


def test_huge(place: Place, promise) -> None:
    """A value of 100 MB is a miss, and is overwritten with the score that belongs there."""
    used = place.memory()
    planted: list[bytes] = []

    @contextmanager
    def huge(place: Place) -> Iterator[None]:
        planted.append(place.names()[0])
        place.admin.set(planted[0], bytes(100_000_000))
        yield

    healed = lambda: place.admin.strlen(planted[0]) == redis_faults.VALUE.size  # noqa: E731
    found = survive(place, huge, healed)
    promise(faults=1, rss_grew_mb=round((place.memory() - used) / 1e6), **found)


FAULTS = [
    *(redis_faults.killed, redis_faults.frozen, redis_faults.paused, redis_faults.SLOW),
    *(redis_faults.CUT, redis_faults.another_password, redis_faults.no_more_connections),
    *(redis_faults.full, redis_faults.read_only, redis_faults.no_right_to_read),
    *(redis_faults.emptied, redis_faults.flipped, redis_faults.lying),
]


def test_one_after_another(place: Place, promise, rng: Random, long: bool) -> None:
    """Faults drawn by chance, one after another without time to recover, fail no request, and
    scores come from Redis again after the last."""
    drawn = [rng.choice(FAULTS) for _ in range(150 if long else 4)]
    with place.traffic.flowing() as counted:
        for fault in drawn:
            end = counted.requests + rng.randrange(10, 2 * FAULT_REQUESTS)
            with fault(place):
                wait_for("requests under the fault", lambda end=end: counted.requests > end)
        used_again(place)
    promise(faults=len(drawn), **figures(counted))


async def test_cancelled(place: Place, promise, rng: Random, long: bool) -> None:
    """Calls that are cancelled while their replies are on the way mix up no scores, and no
    connection is lost by them."""
    metrics = Metrics()
    url = f"redis://plaudit:{PASSWORD}@127.0.0.1:{place.server.port}/0"
    cache = RedisCache(url, metrics, timeout_seconds=30, ttl_seconds=600, secret="s")
    scores = {bytes([i]) * 45: i / 8 for i in range(200)}
    await cache.put(scores)
    asked = cancelled = wrong = 0

    async def call(after: float) -> None:
        nonlocal asked, cancelled, wrong
        keys = rng.sample([*scores], 8)
        asked += 1
        task = asyncio.create_task(cache.get(keys))
        await asyncio.wait([task], timeout=after)
        if not task.done():
            task.cancel()
            cancelled += 1
            await asyncio.wait([task])
            return
        found = task.result()
        wrong += len(found) < len(keys) or any(scores[k] != found[k] for k in found)

    while cancelled < (100_000 if long else 3000):
        await asyncio.gather(*(call(rng.random() * 0.01) for _ in range(2 * CONNECTIONS)))
    assert await cache.get([*scores]) == scores
    connections = place.admin.client_list()
    assert sum(one["user"] == "plaudit" for one in connections) <= CONNECTIONS + 2 * CALLERS
    await cache.close()
    labels = {"tier": "redis", "result": "corrupt"}
    shifted = metrics.registry.get_sample_value("plaudit_cache_lookups_total", labels) or 0
    assert shifted == 0
    promise(requests=asked, faults=cancelled, wrong=wrong)
