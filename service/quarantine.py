"""Sequences that failed a forward by themselves: for a while they fail at once, and cost nothing.

A client that sends a poison item again and again would else fail a batch with each, with vLLM end
the engine's process, and with an item too large for the memory take from all others what is kept
of their prefixes. A sequence is known by the key of its score in the cache, a digest of its token
ids and of the model's revision. No text is kept.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from plaudit.wire import ItemError
from service.logs import log
from service.metrics import Metrics
from service.work import HELD_SECONDS, EngineFault

T = TypeVar("T")
# Of the sequences that failed last.
MOST = 4096
# Each failure after the first doubles the time, up to this.
LONGEST_SECONDS = 3600.0
# Memory may be somebody else's for a moment. A sequence that found none by itself so often in a
# row, each so long after the one before, is too large.
WANTS, APART_SECONDS = 3, 5.0
FAILED = "it failed a forward by itself"


@dataclass
class Ban:
    """``until``: by the clock; ``seconds``: how long it was held the last time."""

    until: float
    seconds: float
    why: str


@dataclass
class Wants:
    """``times`` that there was no memory, the last one counted ``at``."""

    times: int = 0
    at: float = -math.inf


class Quarantine:
    """Times are of ``clock``."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._held: OrderedDict[bytes, Ban] = OrderedDict()
        self._wants: OrderedDict[bytes, Wants] = OrderedDict()
        self._refused = metrics.batches.quarantine_refusals
        metrics.batches.quarantined.set_function(self._count)

    def _count(self) -> float:
        now = self._clock()
        return sum(1 for one in [*self._held.values()] if one.until > now)

    def refused(self, keys: Iterable[bytes]) -> dict[bytes, ItemError]:
        """The errors of those that are held now."""
        now = self._clock()
        found = {}
        for key in keys:
            held = self._held.get(key)
            if held is not None and held.until > now:
                found[key] = ItemError(
                    "quarantined",
                    f"{held.why}; it is tried again after {math.ceil(held.until - now)} s",
                )
        self._refused.inc(len(found))
        return found

    def note(self, key: bytes, fault: EngineFault) -> None:
        """A sequence failed. What was not its own fault holds nothing; a want of memory is its own
        once it lasts, with nothing else in the forward."""
        if fault.kind == "capacity" and fault.alone:
            self._want(key)
        elif fault.held_seconds:
            self._hold(key, fault.held_seconds, FAILED)

    def _want(self, key: bytes) -> None:
        now, wants = self._clock(), self._wants.pop(key, Wants())
        if now >= wants.at + APART_SECONDS:
            wants = Wants(wants.times + 1, now)
            if wants.times >= WANTS:
                why = f"there was no memory for it by itself, {wants.times} times in a row"
                self._hold(key, HELD_SECONDS, why)
        keep(self._wants, key, wants)

    def _hold(self, key: bytes, least: float, why: str) -> None:
        before = self._held.pop(key, None)
        seconds = least if before is None else max(least, before.seconds * 2)
        seconds = min(LONGEST_SECONDS, seconds)
        keep(self._held, key, Ban(self._clock() + seconds, seconds, why))
        fields = {"sequence": key.hex()[:16], "seconds": round(seconds)}
        log.warning("quarantined", extra={"fields": fields})

    def clear(self, key: bytes) -> None:
        """It was scored after all."""
        self._held.pop(key, None)
        self._wants.pop(key, None)


def keep(last: OrderedDict[bytes, T], key: bytes, value: T) -> None:
    """Beside those that were kept last."""
    last[key] = value
    if len(last) > MOST:
        last.popitem(last=False)
