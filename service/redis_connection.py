"""A connection to Redis, from a URL that may be wrong."""

import asyncio
from typing import Any

from redis import Redis
from redis import asyncio as awaited
from redis.asyncio import ConnectionPool, SSLConnection
from redis.exceptions import RedisError, ResponseError

CONNECT_SECONDS = 5.0
# The older protocol and no name of the client: neither needs an answer before a connection's first.
FEW_ANSWERS: dict[str, Any] = {"protocol": 2, "driver_info": None}
FORM = "redis://HOST:6379/0"
# What the query of a rediss:// URL names; OpenSSL does not say which of them it could not read.
TLS_FILES = "ssl_ca_certs, ssl_certfile, ssl_keyfile"


class RedisUrlError(ValueError):
    """A URL that no connection can be made of. What is wrong with it may be its password."""


def connect(url: str, timeout_seconds: float) -> Redis:
    """Not connected yet; without retries."""
    try:
        redis = Redis.from_url(
            url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=timeout_seconds, retry=None
        )
        redis.connection_pool.make_connection()  # reads the rest of the URL
    except (ValueError, TypeError, RedisError):
        raise RedisUrlError(f"the Redis URL cannot be read: write {FORM}") from None
    return redis


async def trouble(url: str, timeout_seconds: float) -> str | None:
    """The class of the error that one PING ends with, or None where Redis answers in time."""
    client = awaited.Redis.from_url(
        url, socket_connect_timeout=timeout_seconds, retry=None, **FEW_ANSWERS
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            await client.ping()
    except ResponseError:
        return None  # an answer, of one that lets this user do no more than it needs
    except (RedisError, OSError, TypeError) as error:  # hiredis makes the last of strange bytes
        return type(error).__name__
    finally:
        await client.aclose()
    return None


def host_of(url: str) -> str | None:
    """The host that the service's URL names, or None for a Unix socket; RedisUrlError for one that
    it cannot use. Nothing is connected to."""
    try:
        pool = ConnectionPool.from_url(url)
        # What the query names must be among its arguments.
        connection = pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, RedisError):
        raise RedisUrlError(f"is not of the form {FORM}") from None
    if isinstance(connection, SSLConnection):
        check_tls_files(connection)
    return getattr(connection, "host", None)


def check_tls_files(connection: SSLConnection) -> None:
    try:
        connection.ssl_context.get()
    except OSError as error:  # ssl's are too
        why = error.strerror or type(error).__name__
        raise RedisUrlError(
            f"names files of TLS of which one is no use ({why}): correct {TLS_FILES}"
        ) from None
