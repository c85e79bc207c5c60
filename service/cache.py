"""The score cache: raw fp32 scores of one member, keyed on everything that changes the number.

Two tiers: in-process always, Redis when a URL is given. The cache never fails a request: a Redis
that is lost, slow or lying is a miss, counted, and after a few failures it is left alone a while.
"""

import asyncio
import hashlib
import hmac
import math
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from redis.asyncio import Redis
from redis.exceptions import InvalidResponse, ResponseError

from plaudit.checkpoint import ids_digest, sha256
from service.breaker import Breaker
from service.complaints import Complaints
from service.metrics import Metrics
from service.recent import Recent
from service.redis_connection import FEW_ANSWERS

# With the version of the layout; the short revision that follows is what keys are found again by.
KEY_PREFIX = b"plaudit:2:"
SHORT = 12
VALUE = struct.Struct("<4sf16s")  # magic with layout version, score, checksum over key and score
MAGIC = b"PLD1"
CONNECTIONS = 32
# Keys of one command or pipeline. redis-py takes a millisecond to pack 30 keys to write, in which
# the loop stands still and the time-out goes on.
BATCH = 256

T = TypeVar("T")


def key_of(revision: str, numerics: str, ids: Sequence[int]) -> bytes:
    """The short revision, a colon, and a digest of 32 bytes: of the model's whole revision, how it
    computes (engine, dtype) and the token ids."""
    parts = (revision.encode(), numerics.encode(), ids_digest(ids).encode())
    digest = bytes.fromhex(sha256(*parts).removeprefix("sha256:"))
    return short(revision).encode() + b":" + digest


def short(revision: str) -> str:
    """The first hexadecimal digits of a revision, as ``plaudit serve`` prints them."""
    return revision.removeprefix("sha256:")[:SHORT]


class Cache(Protocol):
    """What the scorer needs: many keys at once, never an exception."""

    def held(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """What this process has. Hits are counted and misses are not: for those ``get`` follows."""

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, float]: ...

    async def put(self, scores: Mapping[bytes, float]) -> None: ...


class MemoryCache:
    """The ``entries`` scores used last, in this process."""

    def __init__(self, entries: int, metrics: Metrics):
        self._scores: Recent[float] = Recent(entries)
        self._hits = metrics.cache.lookups.labels("l1", "hit")
        self._misses = metrics.cache.lookups.labels("l1", "miss")

    def held(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        found = self._scores.get(keys)
        self._hits.inc(len(found))
        return found

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        found = self.held(keys)
        self._misses.inc(len(keys) - len(found))
        return found

    async def put(self, scores: Mapping[bytes, float]) -> None:
        self._scores.put(scores)


class RedisCache:
    """Scores in Redis: MGETs to read and pipelines to write, up to the first that fails."""

    def __init__(
        self,
        url: str,
        metrics: Metrics,
        *,
        timeout_seconds: float,
        ttl_seconds: int,
        secret: str,
        breaker: Breaker | None = None,
    ):
        # Without retries: a second try would double the time a request waits for a lost Redis.
        self._redis = Redis.from_url(
            url, socket_connect_timeout=timeout_seconds, retry=None, **FEW_ANSWERS
        )
        # More that ask at once share these: a connection for each would use up Redis' own limit,
        # and redis-py's pool refuses the 101st, which would look like a Redis that fails.
        self._connections = asyncio.Semaphore(CONNECTIONS)
        self._timeout, self._ttl = timeout_seconds, ttl_seconds
        self._secret = hashlib.sha256(secret.encode()).digest()
        self._metrics, self._complaints = metrics, Complaints(url)
        self._breaker = own = breaker or Breaker()
        # Read when it is scraped: it closes by time, and nobody may ask meanwhile.
        metrics.cache.breaker.set_function(lambda: own.open)

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        found: dict[bytes, float] = {}
        for start in range(0, len(keys), BATCH):
            some = keys[start : start + BATCH]
            values = await self._attempt("mget", partial(self._mget, some))
            if values is None:
                self._count("error", len(keys) - start)
                break
            found |= self._read(some, values)
        return found

    async def put(self, scores: Mapping[bytes, float]) -> None:
        items = list(scores.items())
        for start in range(0, len(items), BATCH):
            some = items[start : start + BATCH]
            if await self._attempt("set", partial(self._set, some)) is None:
                self._metrics.cache.stores.labels("error").inc(len(items) - start)
                break
            self._metrics.cache.stores.labels("stored").inc(len(some))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _mget(self, keys: Sequence[bytes]) -> list[Any]:
        values = await self._redis.mget([KEY_PREFIX + key for key in keys])
        if not isinstance(values, list) or len(values) != len(keys):
            raise InvalidResponse(f"MGET of {len(keys)} keys was answered with something else")
        return values

    def _read(self, keys: Sequence[bytes], values: Sequence[Any]) -> dict[bytes, float]:
        found = {}
        for key, value in zip(keys, values, strict=True):
            score = None if value is None else self._decode(key, value)
            if score is not None:
                found[key] = score
            elif value is not None:
                self._count("corrupt", 1)
        self._count("hit", len(found))
        self._count("miss", values.count(None))
        return found

    async def _set(self, scores: Sequence[tuple[bytes, float]]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for key, score in scores:
            pipeline.set(KEY_PREFIX + key, self._encode(key, score), ex=self._ttl)
        return await pipeline.execute()

    async def _attempt(self, op: str, call: Callable[[], Awaitable[T]]) -> T | None:
        """The call's result, or None when Redis is left alone, late, gone or unwilling."""
        if not self._breaker.admits():
            return None
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout), self._connections:
                result = await call()
        except ResponseError as error:
            # An answer, and a prompt one: of a Redis that is full, read-only or forbids it. What it
            # still does is used.
            self._settle(succeeded=True)
            self._complaints.say("refuses", op, error)
            return None
        except Exception as error:  # noqa: BLE001  see below
            # Lost, late, or none that speaks Redis's protocol: of bytes that hiredis cannot read
            # it makes a TypeError as well as a RedisError.
            self._settle(succeeded=False)
            self._complaints.say("fails", op, error)
            return None
        else:
            self._settle(succeeded=True)
            return result
        finally:
            self._metrics.cache.op_seconds.labels(op).observe(time.perf_counter() - began)

    def _settle(self, succeeded: bool) -> None:
        failing = self._breaker.failing
        self._breaker.record(succeeded)
        if failing != self._breaker.failing:
            self._complaints.turn("left alone" if not failing else "used again")

    def _count(self, result: str, count: int) -> None:
        self._metrics.cache.lookups.labels("redis", result).inc(count)

    def _checksum(self, key: bytes, score: bytes) -> bytes:
        # Over the key too, so that a reply shifted by one is a miss and not another item's score.
        return hashlib.blake2b(key + score, key=self._secret, digest_size=16).digest()

    def _encode(self, key: bytes, score: float) -> bytes:
        return VALUE.pack(MAGIC, score, self._checksum(key, struct.pack("<f", score)))

    def _decode(self, key: bytes, value: bytes | str) -> float | None:
        if not isinstance(value, bytes) or len(value) != VALUE.size:
            return None
        score: float
        magic, score, checksum = VALUE.unpack(value)
        own = self._checksum(key, struct.pack("<f", score))
        if magic != MAGIC or not hmac.compare_digest(checksum, own):
            return None
        return score if math.isfinite(score) else None


class TieredCache:
    """Memory first, then Redis; what Redis knew is kept in memory."""

    def __init__(self, memory: MemoryCache, redis: RedisCache):
        self._memory, self._redis = memory, redis

    def held(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        return self._memory.held(keys)

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        found = await self._memory.get(keys)
        missing = [key for key in keys if key not in found]
        known = await self._redis.get(missing)
        await self._memory.put(known)
        return found | known

    async def put(self, scores: Mapping[bytes, float]) -> None:
        await self._memory.put(scores)
        await self._redis.put(scores)
