"""One sequence on its way to a score, and how it ends."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from plaudit.joint_model import Asked
from service.fair_queue import Caller
from service.faults import is_device_lost, is_out_of_memory
from service.logs import log

STOPPING = "the server is stopping"
# How long a sequence that failed a forward by itself is not tried again, the first time. Short: a
# fault may pass.
HELD_SECONDS = 60.0


FaultKind = Literal["engine-fault", "capacity"]


class EngineFault(RuntimeError):
    """A forward failed; the cause is chained.

    ``kind``: the type of the item's error. ``held_seconds``: how long the same sequence is not
    tried again, where the fault is its own; else 0. ``alone``: whether nothing else was in the
    forward.
    """

    def __init__(
        self,
        detail: str,
        kind: FaultKind = "engine-fault",
        held_seconds: float = 0.0,
        alone: bool = False,
    ):
        super().__init__(detail)
        self.kind, self.held_seconds, self.alone = kind, held_seconds, alone


@dataclass(eq=False)
class Work:
    """One sequence on its way to one member's score, wanted by ``waiters`` callers.

    ``done`` is settled with the score or an EngineFault, or cancelled when the last caller leaves
    before a forward has ``begun`` on it. Times are of ``time.perf_counter``.
    """

    asked: Asked
    caller: Caller
    done: asyncio.Future[float]
    waiters: int = 1
    begun: bool = False
    since: float = field(default_factory=time.perf_counter)
    begun_at: float = 0.0
    ended_at: float = 0.0

    def begin(self, now: float) -> None:
        self.begun, self.begun_at = True, now

    @property
    def tokens(self) -> int:
        return len(self.asked.ids)

    def leave(self) -> None:
        """One caller fewer. What is being computed goes on: a retry will find it cached."""
        self.waiters -= 1
        if not self.waiters and not self.begun:
            self.done.cancel()


def fault_of(error: Exception, count: int) -> EngineFault:
    """Log an engine's failure, and make it the fault of its work: the sequence's own where it stood
    alone, unless memory or the device is gone."""
    log.error("engine fault", exc_info=error)
    said = f"{type(error).__name__} in a batch of {count}"
    if is_out_of_memory(error):
        fault = EngineFault(said, "capacity", alone=count == 1)
    else:
        own = count == 1 and not is_device_lost(error)
        fault = EngineFault(said, held_seconds=HELD_SECONDS if own else 0.0, alone=count == 1)
    fault.__cause__ = error
    return fault


def settle(
    works: Sequence[Work],
    scores: np.ndarray[Any, Any] | None = None,
    error: EngineFault | None = None,
) -> None:
    """Give each its score, or all the error."""
    now = time.perf_counter()
    for i, work in enumerate(works):
        if work.done.done():
            continue
        work.ended_at = now
        if scores is None:
            assert error is not None
            work.done.set_exception(error)
            work.done.exception()  # marked as seen: a caller that left must not leave a warning
        else:
            work.done.set_result(float(scores[i]))
