"""What each trainer can make of an item without a reward, and of options. Never a silent 0.0."""

import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from plaudit.client.scores import EnsembleScores, Scores
from plaudit.wire import ItemResult

Trainer = Literal["trl", "swift", "verl", "slime", "areal", "nemo_rl"]
OnFailure = Literal["raise", "none"] | float
# Options that not every trainer's adapter has a use for.
OF_SOME = ("prompt_key", "stop")

logger = logging.getLogger("plaudit")


@dataclass(frozen=True)
class Notion:
    """``none``: whether a reward None means something there. ``reads``: of ``OF_SOME``, the key of
    the prompt where it is looked for in a row, the end of turn where responses still have it."""

    default: OnFailure
    none: bool
    reads: Collection[str] = ()


NOTIONS: dict[Trainer, Notion] = {
    # None becomes NaN, which is left out of the group's mean and has advantage zero.
    "trl": Notion("none", none=True),
    # None becomes NaN here too, but then a sum that passes over NaN makes 0.0 of it.
    "swift": Notion("raise", none=False),
    # A score goes into a tensor: None ends the run, and NaN spoils its whole group.
    "verl": Notion("raise", none=False, reads=("prompt_key",)),
    # None where slime.drop_failed then drops the group; elsewhere it would end the run unexplained.
    "slime": Notion("raise", none=True, reads=("prompt_key", "stop")),
    # What raises is tried three times more, then the trajectory is rejected.
    "areal": Notion("raise", none=False, reads=("prompt_key", "stop")),
    # Rewards are one tensor, from which baselines are computed.
    "nemo_rl": Notion("raise", none=False, reads=("prompt_key",)),
}


def settle(scores: Scores | EnsembleScores, failed: OnFailure) -> list[float | None]:
    """The rewards (N,), with ``failed`` in the place of those that are missing.

    Raises ItemsFailed, with the reasons, where that is "raise".
    """
    if failed == "raise":
        scores.raise_for_errors()
    kinds = Counter(item.error.type for item in scores.items if item.error is not UNSET)
    if kinds:
        said = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        logger.warning("no reward for %d of %d items: %s", kinds.total(), len(scores.items), said)
    if degraded := sum(map(is_degraded, scores.items)):
        logger.warning(
            "the rewards of %d of %d items are without some members of the ensemble",
            degraded,
            len(scores.items),
        )
    stand_in = None if isinstance(failed, str) else failed
    return [stand_in if reward is None else reward for reward in scores.rewards]


def is_degraded(item: ItemResult) -> bool:
    """Whether its reward is without some members of the ensemble."""
    return item.degraded is True


def disagreement(scores: Scores | EnsembleScores) -> list[float | None]:
    """Standard deviation over members (N,) of an ensemble; None of one model or a failed item."""
    if isinstance(scores, Scores):
        return [None] * len(scores.rewards)
    return [None if variance is None else variance**0.5 for variance in scores.variance]
