"""What Redis has under a key: written by us, or by anybody.

An input is a key of 32 bytes and the value.
"""

import math
import struct

from service.cache import RedisCache
from service.metrics import Metrics

KEY = 32
CODEC = RedisCache(
    "redis://127.0.0.1:1/0", Metrics(), timeout_seconds=1, ttl_seconds=1, secret="secret"
)  # never connected to
ANOTHER = RedisCache(
    "redis://127.0.0.1:1/0", Metrics(), timeout_seconds=1, ttl_seconds=1, secret="other"
)


def seeds() -> list[bytes]:
    keys = [bytes(KEY), bytes(range(KEY))]
    return [key + CODEC._encode(key, score) for key in keys for score in (0.0, -1.5, 3e38)]


def one(data: bytes) -> None:
    """A miss, or the very bytes that we write under that key for a finite score."""
    key, value = data[:KEY].ljust(KEY, b"\0"), data[KEY:]
    score = CODEC._decode(key, value)
    if score is not None:
        assert math.isfinite(score)
        assert CODEC._encode(key, score) == value
    written = a_score(value)
    own = CODEC._encode(key, written)
    assert CODEC._decode(key, own) == written
    assert ANOTHER._decode(key, own) is None
    assert CODEC._decode(bytes([key[0] ^ 1]) + key[1:], own) is None


def a_score(value: bytes) -> float:
    """A finite one that the bytes choose."""
    (score,) = struct.unpack("<f", value[:4].ljust(4, b"\0"))
    return float(score) if math.isfinite(score) else 1.0
