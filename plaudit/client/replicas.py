"""Which of several replicas is asked: the same one for the same prompt, while it can be reached.

Rendezvous hashing (Thaler and Ravishankar 1998, DOI 10.1109/90.663936): every caller ranks the
replicas for a prompt alike, and one that goes takes only its own share with it, to each prompt's
next in rank.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

# How long one that could not be reached is left alone before its share is tried on it again.
REST_SECONDS = 5.0


@dataclass
class Replicas:
    """``urls`` in the order given; ``now`` in seconds."""

    urls: tuple[str, ...]
    now: Callable[[], float]
    _rested: dict[str, float] = field(default_factory=dict)

    def route(self, shared: object) -> tuple[str, ...]:
        """All replicas, the one to ask first in front, those that rest behind."""
        if len(self.urls) == 1:
            return self.urls
        key = msgspec.json.encode(shared)
        ranked = sorted(self.urls, key=lambda url: _weight(url, key), reverse=True)
        return tuple(sorted(ranked, key=self._rests))

    def pick(self, order: Sequence[str], attempt: int) -> str:
        """The first of ``order`` that does not rest; if all do, one after the other."""
        awake = (url for url in order if not self._rests(url))
        return next(awake, order[attempt % len(order)])

    def rest(self, url: str) -> None:
        """It could not be reached."""
        self._rested[url] = self.now() + REST_SECONDS

    def wake(self, url: str) -> None:
        """It answered."""
        self._rested.pop(url, None)

    def any_awake(self, order: Sequence[str]) -> bool:
        return not all(map(self._rests, order))

    def _rests(self, url: str) -> bool:
        return self.now() < self._rested.get(url, self.now())


def _weight(url: str, key: bytes) -> bytes:
    return blake2b(key, key=blake2b(url.encode(), digest_size=32).digest(), digest_size=8).digest()
