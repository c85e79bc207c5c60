"""How far a swap is: what ``POST /admin/swap`` answers, and ``GET /admin/swaps`` lists."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from service.audit import Audit, By
from service.member import Member
from service.swap_report import Report
from service.swap_request import Limits, ShadowPlan, SwapRequest

State = Literal["loading", "comparing", "switched", "compared", "refused", "cancelled", "failed"]
UNDER_WAY = ("loading", "comparing")


class Moved(Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """Revisions before and after, once they are known."""

    model: str
    checkpoint: str
    before: str | None = None
    after: str | None = None


class SwapView(Struct, frozen=True):
    """``seconds`` since it was asked, or until it ended; ``tried`` items of each model that were
    compared so far; ``reason`` why nothing was switched."""

    id: int
    state: State
    client: str
    began: str
    seconds: float
    swaps: list[Moved]
    reason: str | None = None
    shadow: ShadowPlan | None = None
    require: Limits | None = None
    tried: dict[str, int] = {}
    reports: dict[str, Report] = {}


class SwapList(Struct, frozen=True):
    """The newest first."""

    swaps: list[SwapView]


@dataclass
class Swap:
    """One swap that was asked for. ``swaps`` has names that are ours, or can harm nobody; and no
    member is referred to: what was replaced can be freed."""

    id: int
    by: By
    asked: SwapRequest
    swaps: Sequence[Moved]
    state: State = "loading"
    reason: str | None = None
    tried: dict[str, int] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    cancelled_by: str | None = None  # the name of a key, maybe long before it could stop
    _began: float = field(default_factory=time.perf_counter)
    _at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _seconds: float | None = None

    @property
    def under_way(self) -> bool:
        return self.state in UNDER_WAY

    def loaded(self, pairs: Sequence[tuple[Member, Member]]) -> None:
        self.swaps = [
            Moved(moved.model, moved.checkpoint, old.revision, new.revision)
            for moved, (old, new) in zip(self.swaps, pairs, strict=True)
        ]

    def end(self, state: State, reason: str | None = None) -> None:
        self.state, self.reason = state, reason
        self._seconds = time.perf_counter() - self._began

    def view(self) -> SwapView:
        seconds = time.perf_counter() - self._began if self._seconds is None else self._seconds
        return SwapView(
            self.id, self.state, self.by.who or "", self._at.isoformat(timespec="seconds"),
            round(seconds, 3), [*self.swaps], self.reason, self.asked.shadow, self.asked.require,
            dict(self.tried), dict(self.reports),
        )  # fmt: skip


def record(audit: Audit, swap: Swap, what: str, outcome: str, **more: object) -> None:
    """A line when a swap is accepted, and one when it ends, which a comparison does long after it
    was asked for. No text of the caller is in it but names that were looked up."""
    swaps = [
        {"model": one.model, "checkpoint": one.checkpoint, "from": one.before, "to": one.after}
        for one in swap.swaps
    ]
    audit.record(what, outcome, id=swap.id, **swap.by.said(), swaps=swaps, **more)
