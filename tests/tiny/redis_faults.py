"""A service whose Redis goes through a proxy, and what can become of that Redis."""

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random

import httpx2
import redis
from prometheus_client.parser import text_string_to_metric_families
from redis_process import RedisServer
from steady_traffic import SteadyTraffic
from tcp_proxy import TcpProxy

from service.cache import KEY_PREFIX, MAGIC, VALUE, RedisCache
from service.metrics import Metrics

TIMEOUT_MS = 250
PASSWORD = "first"
RIGHTS = ("~plaudit:*", "resetchannels", "-@all", "+get", "+mget", "+set", "+ping")


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

    def memory(self) -> float:
        return self.metric("process_resident_memory_bytes")

    def names(self) -> list[bytes]:
        """Of the scores that are kept."""
        return [*self.admin.scan_iter(match=KEY_PREFIX + b"*", count=1000)]

    def halve(self) -> None:
        """Forget every other score, so that there is something to write."""
        for name in self.names()[::2]:
            self.admin.delete(name)


Fault = Callable[[Place], AbstractContextManager[None]]


@contextmanager
def repeated(call: Callable[[], object]) -> Iterator[None]:
    """``call`` again and again, beside the block."""
    over = threading.Event()

    def repeat() -> None:
        call()
        while not over.wait(0.02):
            call()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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
    """For a time that nobody can end, as the pause is for commands that would end it too."""
    place.admin.execute_command("CLIENT", "PAUSE", "3000", "ALL")
    yield


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
    place.admin.config_set("maxmemory-policy", "noeviction")
    place.admin.config_set("maxmemory", "1")
    place.halve()
    yield
    place.admin.config_set("maxmemory", "0")


@contextmanager
def read_only(place: Place) -> Iterator[None]:
    """A replica of a primary that is lost."""
    place.halve()
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


SLOW = harmed(delay_seconds=1.2 * TIMEOUT_MS / 1000)
CUT = harmed(cut_after=70)  # in the second value or so of the reply to MGET


@contextmanager
def emptied(place: Place) -> Iterator[None]:
    with repeated(place.admin.flushall):
        yield


@contextmanager
def flipped(place: Place) -> Iterator[None]:
    """Bits of replies, of values as of what frames them."""
    shares = (0.1, 0.01, 0.001)
    with repeated(lambda: place.proxy.set(flip_share=place.rng.choice(shares))):
        yield
    place.proxy.set()


@contextmanager
def lying(place: Place) -> Iterator[None]:
    """Whatever is kept is overwritten with what somebody else would write."""

    def lie() -> None:
        names = place.names()
        for name in place.rng.sample(names, min(30, len(names))):
            plant(place, name, place.rng.choice(names))

    with repeated(lie):
        yield


def plant(place: Place, name: bytes, other: bytes) -> None:
    """A lie under a name: of a bug, of an accident, of an attacker who lacks the secret."""
    value, others = (one or bytes(VALUE.size) for one in place.admin.mget(name, other))
    bit = place.rng.randrange(8 * len(value))
    flipped = bytearray(value)
    flipped[bit // 8] ^= 1 << bit % 8
    place.admin.delete(name)
    match place.rng.randrange(10):
        case 0:
            place.admin.rpush(name, value)
        case 1:
            place.admin.hset(name, "score", value)
        case 2:
            place.admin.set(name, place.rng.randbytes(1_000_000))
        case lie:
            values = [
                bytes(flipped), value[:-1], others, pickle.dumps(1.0), b"",
                stranger()._encode(name.removeprefix(KEY_PREFIX), 99.0),
                VALUE.pack(MAGIC, 99.0, bytes(16)),
            ]  # fmt: skip
            place.admin.set(name, values[lie - 3])


def stranger() -> RedisCache:
    """Somebody who knows the layout and not the secret."""
    return RedisCache(
        "redis://127.0.0.1:1/0", Metrics(), timeout_seconds=1, ttl_seconds=1, secret="a guess"
    )
