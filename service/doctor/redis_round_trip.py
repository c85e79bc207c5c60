"""Redis as the cache uses it: PING, SET with a life, MGET, and how long they take."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from service.byte_size import size
from service.doctor.finding import Finding, failed, ok, warning
from service.redaction import without_password
from service.redis_connection import FORM, TLS_FILES, RedisUrlError, connect

ROUND_TRIPS = 300
KEYS = 16
LIFE_SECONDS = 30
TIMEOUT_SECONDS = 5.0
MOST_SKEW_SECONDS = 5.0


def check(url: str, timeout_ms: float) -> Iterator[Finding]:
    """``timeout_ms`` is the server's patience with Redis."""
    shown = without_password(url)
    try:
        redis = connect(url, TIMEOUT_SECONDS)
    except RedisUrlError:
        yield failed("redis", "the URL cannot be read", f"export PLAUDIT_REDIS_URL={FORM}")
        return
    with redis:
        try:
            redis.ping()
            yield ok("redis", f"{shown} answers PING")
            yield written(redis)
            yield latency(redis, timeout_ms)
            yield from details(redis)
        except NoPermissionError as error:
            yield failed(
                "redis", f"{shown}: {error}",
                "redis-cli ACL SETUSER NAME +get +mget +set +ping '~plaudit:*'"
            )  # fmt: skip
        except (RedisError, OSError) as error:
            yield failed(
                "redis",
                f"{shown}: {type(error).__name__}: {error}",
                f"start it, or correct PLAUDIT_REDIS_URL{certificates(url)}",
            )


def certificates(url: str) -> str:
    return f", and in its query {TLS_FILES}" if url.startswith("rediss:") else ""


def names() -> list[bytes]:
    return [b"plaudit:doctor:" + os.urandom(8).hex().encode() for _ in range(KEYS)]


def written(redis: Redis) -> Finding:
    """SET with a life, MGET of what was set and of what was not."""
    [name, missing] = names()[:2]
    redis.set(name, b"\x00\xff", ex=LIFE_SECONDS)
    found = redis.mget([name, missing])
    if found != [b"\x00\xff", None]:
        return failed(
            "redis write", "what was set does not come back: this is no plain Redis",
            "give --redis-url of a Redis or Valkey, without a proxy that changes values"
        )  # fmt: skip
    return ok("redis write", f"SET with EX {LIFE_SECONDS} and MGET give back what was set")


def latency(redis: Redis, timeout_ms: float) -> Finding:
    """Of MGETs of 16 keys that are not there."""
    asked = names()
    milliseconds = sorted(timed(lambda: redis.mget(asked)) for _ in range(ROUND_TRIPS))
    p50, p99 = statistics.median(milliseconds), milliseconds[int(0.99 * ROUND_TRIPS)]
    said = f"{ROUND_TRIPS} MGET of {KEYS} keys: p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    if p99 > timeout_ms / 2:
        return warning(
            "redis latency",
            f"{said}, and the server waits {timeout_ms:g} ms at most before it does without",
            "put Redis nearer, or export PLAUDIT_REDIS_TIMEOUT_MS=" + f"{max(1, round(4 * p99))}",
        )
    return ok("redis latency", f"{said}; the server waits {timeout_ms:g} ms at most")


def timed(call: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def details(redis: Redis) -> Iterator[Finding]:
    """What an ACL may hide, as it hides it from the server, which needs none of it."""
    try:
        info = redis.info()
    except NoPermissionError:
        yield ok("redis memory", "not to be seen: this user may not ask for INFO")
        return
    yield memory(info)
    try:
        seconds, microseconds = redis.time()
    except NoPermissionError:
        return
    yield skew(time.time() - seconds - microseconds / 1e6)


def memory(info: dict[str, Any]) -> Finding:
    policy, most = info["maxmemory_policy"], info["maxmemory"]
    said = f"version {info['redis_version']}, {size(info['used_memory'])} used"
    if not most:
        return warning(
            "redis memory", f"{said}, no maxmemory: it grows until keys end",
            "redis-cli CONFIG SET maxmemory 512mb maxmemory-policy allkeys-lfu"
        )  # fmt: skip
    said += f" of {size(most)}, {policy}"
    if policy == "noeviction":
        return warning(
            "redis memory", f"{said}: once it is full, no score is kept any more",
            "redis-cli CONFIG SET maxmemory-policy allkeys-lfu"
        )  # fmt: skip
    return ok("redis memory", said)


def skew(seconds: float) -> Finding:
    if abs(seconds) > MOST_SKEW_SECONDS:
        return warning(
            "redis clock", f"{abs(seconds):.0f} s apart from the clock here",
            "timedatectl set-ntp true, on the one that is wrong"
        )  # fmt: skip
    return ok("redis clock", "agrees with the clock here")
