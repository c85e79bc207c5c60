"""What the keys of the score cache in Redis tell, and the pages of SCAN that they come in.

A key is ``plaudit:2:<short revision>:<digest>``; see ``service.cache``. KEYS is never used: it
stops the server for as long as it looks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from redis import Redis

from service.cache import KEY_PREFIX, SHORT

EVERY_LAYOUT = b"plaudit:*"
PAGE = 1000
# Of each page, the keys that are asked for their size and life. The order of SCAN is that of
# hashes, so those are a fair sample.
SAMPLE = 200
OTHER = "another layout"


@dataclass
class Keys:
    """Of one revision. ``ttl_seconds`` and ``sampled_bytes`` are of ``sampled`` keys; a key without
    an end has a life of None and is counted in ``endless``."""

    revision: str
    count: int = 0
    sampled: int = 0
    sampled_bytes: int = 0
    endless: int = 0
    shortest_ttl_seconds: float | None = None
    longest_ttl_seconds: float | None = None

    @property
    def bytes(self) -> int:
        """Of all keys, estimated from the sample; exact when every key is in it."""
        return round(self.sampled_bytes / self.sampled * self.count) if self.sampled else 0

    def add_sample(self, size: int | None, ttl_milliseconds: int) -> None:
        if size is None or ttl_milliseconds == -2:  # it ended meanwhile
            return
        self.sampled += 1
        self.sampled_bytes += size
        if ttl_milliseconds == -1:
            self.endless += 1
            return
        ttl = ttl_milliseconds / 1000
        shortest, longest = self.shortest_ttl_seconds, self.longest_ttl_seconds
        self.shortest_ttl_seconds = ttl if shortest is None else min(shortest, ttl)
        self.longest_ttl_seconds = ttl if longest is None else max(longest, ttl)


def revision_of(name: bytes) -> str:
    """The short revision in a key, or OTHER."""
    revision, colon, _ = name.removeprefix(KEY_PREFIX).partition(b":")
    of_ours = name.startswith(KEY_PREFIX) and colon and len(revision) == SHORT
    return revision.decode("ascii", "replace") if of_ours else OTHER


def pages(redis: Redis, pattern: bytes = EVERY_LAYOUT) -> Iterator[list[bytes]]:
    """The keys that fit a pattern. One that is there all the while comes at least once."""
    cursor = 0
    while True:
        cursor, names = redis.scan(cursor, match=pattern, count=PAGE)
        if names:
            yield [name for name in names if isinstance(name, bytes)]
        if cursor == 0:
            return


def by_revision(redis: Redis) -> dict[str, Keys]:
    """Every key of the cache, counted; a key that SCAN gives twice counts twice, which happens only
    while the table grows or shrinks."""
    found: dict[str, Keys] = {}
    for names in pages(redis):
        for name in names:
            revision = revision_of(name)
            found.setdefault(revision, Keys(revision)).count += 1
        for name, size, ttl in sampled(redis, names[:SAMPLE]):
            found[revision_of(name)].add_sample(size, ttl)
    return found


def sampled(redis: Redis, names: list[bytes]) -> Iterator[tuple[bytes, int | None, int]]:
    """Bytes and remaining milliseconds of each name."""
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        pipeline.memory_usage(name)
        pipeline.pttl(name)
    answers = pipeline.execute()
    return zip(names, answers[::2], answers[1::2], strict=True)


def older(redis: Redis, names: list[bytes], ends_within_milliseconds: int) -> list[bytes]:
    """Those that end so soon that they were written long ago; one without an end never does."""
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        pipeline.pttl(name)
    lives = pipeline.execute()
    return [n for n, left in zip(names, lives, strict=True) if 0 <= left < ends_within_milliseconds]
