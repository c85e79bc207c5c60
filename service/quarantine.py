"""Sequences that failed a forward by themselves: for a while they fail at once, and cost nothing.

A client that sends a poison item again and again would else fail a batch with each, and with vLLM
end the engine's process. A sequence is known by the key of its score in the cache, a digest of its
token ids and of the model's revision. No text is kept.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from plaudit.wire import ItemError
from service.logs import log
from service.metrics import Metrics
from service.work import EngineFault

# Of the sequences that failed last.
MOST = 4096
# Each failure after the first doubles the time, up to this.
LONGEST_SECONDS = 3600.0


@dataclass
class Ban:
    """``until``: by the clock; ``seconds``: how long it was held the last time."""

    until: float
    seconds: float


class Quarantine:
    """Times are of ``clock``."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._held: OrderedDict[bytes, Ban] = OrderedDict()
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
                    "it failed a forward by itself; it is tried again "
                    f"after {math.ceil(held.until - now)} s",
                )
        self._refused.inc(len(found))
        return found

    def note(self, key: bytes, fault: EngineFault) -> None:
        """A sequence failed. What was not its own fault holds nothing."""
        if not fault.held_seconds:
            return
        before = self._held.pop(key, None)
        seconds = fault.held_seconds if before is None else before.seconds * 2
        seconds = min(LONGEST_SECONDS, max(seconds, fault.held_seconds))
        self._held[key] = Ban(self._clock() + seconds, seconds)
        if len(self._held) > MOST:
            self._held.popitem(last=False)
        fields = {"sequence": key.hex()[:16], "seconds": round(seconds)}
        log.warning("quarantined", extra={"fields": fields})

    def clear(self, key: bytes) -> None:
        """It was scored after all."""
        self._held.pop(key, None)
