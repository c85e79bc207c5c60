"""A Redis that is killed, frozen, slow, cut off, full, read-only, lying or locked.

A real ``plaudit serve`` without a cache of its own, so that every item is looked up in a real
redis-server, through a proxy that does harm. Steady traffic checks every score to its last bit.
"""

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import httpx2
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from redis_process import RedisServer, serving_redis
from spawned import wait_for
from steady_traffic import Counted, SteadyTraffic, pool
from tcp_proxy import TcpProxy, proxy_to

from service.breaker import Breaker
from service.cache import KEY_PREFIX, RedisCache
from service.metrics import Metrics
from training.service_process import serving

TIMEOUT_MS = 250
PASSWORD = "first"
RIGHTS = ("~plaudit:*", "resetchannels", "-@all", "+get", "+mget", "+set", "+ping")
CALLERS = 3
FAULT_REQUESTS = 60


@dataclass
class Place:
    """The service, its Redis, and the proxy between them."""

    url: str
    server: RedisServer
    proxy: TcpProxy
    traffic: SteadyTraffic
    rng: Random

    def __post_init__(self) -> None:
        # One connection, which stays: faults are made and ended over it.
        self.admin = redis.Redis(port=self.server.port, single_connection_client=True)

    def metric(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(httpx2.get(f"{self.url}/metrics").text)
        samples = (sample for family in families for sample in family.samples)
        return sum(
            sample.value
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def lookups(self, result: str) -> float:
        return self.metric("plaudit_cache_lookups_total", tier="redis", result=result)

    def stores(self, result: str) -> float:
        return self.metric("plaudit_cache_stores_total", result=result)

    def left_alone(self) -> bool:
        return self.metric("plaudit_cache_breaker_state") == 1

    def tries(self) -> float:
        return self.metric("plaudit_cache_op_duration_seconds_count")

    def allow(self, password: str = PASSWORD) -> None:
        words = ("on", "resetpass", f">{password}", *RIGHTS)
        self.admin.execute_command("ACL", "SETUSER", "plaudit", "reset", *words)

    def hang_up(self) -> None:
        """On the service: its next call connects anew."""
        self.admin.execute_command("CLIENT", "KILL", "USER", "plaudit")

    def names(self) -> list[bytes]:
        return [name for name in self.admin.scan_iter(match=KEY_PREFIX + b"*", count=1000)]


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


Fault = Callable[[Place], AbstractContextManager[None]]


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


@contextmanager
def killed(place: Place) -> Iterator[None]:
    place.server.kill()
    yield
    place.server.start()
    place.admin = redis.Redis(port=place.server.port, single_connection_client=True)
    place.allow()


@contextmanager
def frozen(place: Place) -> Iterator[None]:
    process = place.admin.info("server")["process_id"]
    os.kill(process, signal.SIGSTOP)
    yield
    os.kill(process, signal.SIGCONT)


@contextmanager
def paused(place: Place) -> Iterator[None]:
    place.admin.execute_command("CLIENT", "PAUSE", "600000", "ALL")
    yield
    place.admin.execute_command("CLIENT", "UNPAUSE")


def harmed(**harm: object) -> Fault:
    @contextmanager
    def fault(place: Place) -> Iterator[None]:
        place.proxy.set(**harm)
        yield
        place.proxy.set()

    return fault


@contextmanager
def full(place: Place) -> Iterator[None]:
    """Half of the scores are there, and nothing more is taken."""
    names = place.names()
    place.admin.config_set("maxmemory-policy", "noeviction")
    place.admin.config_set("maxmemory", "1")
    place.admin.delete(*names[::2])
    yield
    place.admin.config_set("maxmemory", "0")


@contextmanager
def read_only(place: Place) -> Iterator[None]:
    """A replica of a primary that is lost."""
    place.admin.delete(*place.names()[::2])
    place.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    yield
    place.admin.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def another_password(place: Place) -> Iterator[None]:
    place.allow("second")
    place.hang_up()
    yield
    place.allow()


@contextmanager
def no_right_to_read(place: Place) -> Iterator[None]:
    place.admin.execute_command("ACL", "SETUSER", "plaudit", "-mget")
    yield
    place.allow()


@contextmanager
def no_more_connections(place: Place) -> Iterator[None]:
    place.admin.config_set("maxclients", "1")  # ours
    place.hang_up()
    yield
    place.admin.config_set("maxclients", "10000")


LOST: dict[str, Fault] = {
    "killed": killed,
    "frozen": frozen,
    "paused": paused,
    "stuck": harmed(frozen=True),
    "slow": harmed(delay_seconds=1.2 * TIMEOUT_MS / 1000),
    "refusing": another_password,
    "crowded": no_more_connections,
    "cut": harmed(cut_after=70),
}


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


def test_killed(place: Place, promise) -> None:
    """A Redis that is killed and comes back empty fails no request; it is left alone meanwhile."""
    promise(faults=1, **lost_for_a_while(place, killed))
