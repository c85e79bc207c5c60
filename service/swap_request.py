"""What ``POST /admin/swap`` is asked: which checkpoints, compared how, within which limits."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

# Of a comparison that begins: as many scores are kept, in pairs.
MOST_ITEMS = 100_000
# Of a comparison whose limits say nothing else.
FEWEST_ITEMS = 100
Share = Annotated[float, Meta(ge=0, le=1)]


class Exchange(Struct, frozen=True, forbid_unknown_fields=True):
    """``model`` is a loaded model's name, ``checkpoint`` that of a directory in the model root."""

    model: str
    checkpoint: str


class ShadowPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """What the new checkpoint scores beside the old one: a share of the requests, until as many
    items are compared or the time is up."""

    share: Annotated[float, Meta(gt=0, le=1)] = 0.1
    items: Annotated[int, Meta(ge=2, le=MOST_ITEMS)] = 1000
    seconds: Annotated[float, Meta(gt=0, le=86_400)] = 600.0


class Limits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a comparison must show for a swap; all of it of rewards.

    At least ``items`` compared, of which at most a share of ``failed``; correlations at least as
    high; at most a share of ``changed_preferences``; a mean that moves by at most ``mean_shift``; a
    standard deviation that grows or shrinks by at most the factor ``std_ratio``.
    """

    items: Annotated[int, Meta(ge=2, le=MOST_ITEMS)] | None = None
    failed: Share = 0.0
    rank_correlation: Annotated[float, Meta(ge=-1, le=1)] | None = None
    kendall: Annotated[float, Meta(ge=-1, le=1)] | None = None
    changed_preferences: Share | None = None
    mean_shift: Annotated[float, Meta(ge=0)] | None = None
    std_ratio: Annotated[float, Meta(ge=1)] | None = None


class SwapRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One model, or several in one step. With ``shadow`` and ``require`` they are compared first,
    and swapped if that shows what is required; with ``shadow`` alone they are only compared."""

    model: str | UnsetType = UNSET
    checkpoint: str | UnsetType = UNSET
    swaps: Annotated[list[Exchange], Meta(min_length=1)] | UnsetType = UNSET
    shadow: ShadowPlan | None = None
    require: Limits | None = None

    def __post_init__(self) -> None:
        one = self.model is not UNSET and self.checkpoint is not UNSET
        if one == (self.swaps is not UNSET):
            raise ValueError("either model and checkpoint, or swaps")
        if one != (self.model is not UNSET or self.checkpoint is not UNSET):
            raise ValueError("model and checkpoint go together")
        names = [exchange.model for exchange in self.exchanges]
        if len(set(names)) < len(names):
            raise ValueError("one model is named twice")
        self._check_limits()

    def _check_limits(self) -> None:
        if self.require is None:
            return
        if self.shadow is None:
            raise ValueError("require is of a comparison, which shadow asks for")
        if (self.require.items or 0) > self.shadow.items:
            raise ValueError("require wants more items than shadow compares")

    @property
    def exchanges(self) -> Sequence[Exchange]:
        if self.swaps is not UNSET:
            return self.swaps
        assert self.model is not UNSET
        assert self.checkpoint is not UNSET
        return [Exchange(self.model, self.checkpoint)]

    @property
    def fewest(self) -> int:
        """As many items a comparison needs to speak for a swap."""
        assert self.shadow is not None
        if self.require is not None and self.require.items is not None:
            return self.require.items
        return min(FEWEST_ITEMS, self.shadow.items)
