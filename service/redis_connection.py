"""A connection to Redis for a command, from a URL that may be wrong."""

from redis import Redis

CONNECT_SECONDS = 5.0
FORM = "redis://HOST:6379/0"


class RedisUrlError(ValueError):
    """A URL that no connection can be made of. What is wrong with it may be its password."""


def connect(url: str, timeout_seconds: float) -> Redis:
    """Not connected yet; without retries."""
    try:
        redis = Redis.from_url(
            url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=timeout_seconds, retry=None
        )
        redis.connection_pool.make_connection()  # reads the rest of the URL
    except (ValueError, TypeError):
        raise RedisUrlError(f"the Redis URL cannot be read: write {FORM}") from None
    return redis
