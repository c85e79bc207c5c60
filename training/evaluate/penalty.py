"""How much to take off for disagreement: the coefficient of ``uwo`` or ``lcb`` that pays in gold.

Pure. Letters: K responses of a list, M members, G prompts, R rows of the report.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from plaudit.aggregate import CENTRED, aggregate
from plaudit.wire import Aggregate
from training.evaluate.accuracy import Array, Estimate, accuracies, differences
from training.evaluate.best_of_n import picked

Penalised = Literal["uwo", "lcb"]
# From none to one that lets disagreement alone decide.
GRID = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class JudgedList:
    """Members' rewards (K, M) of the responses to a prompt, their gold (K,), and the rewards (K,)
    by the ensemble's centre if it has one."""

    prompt: str
    rewards: Array
    gold: Array
    centre: Array | None = None

    def combined(self, kind: Aggregate, coefficient: float) -> Array:
        """Rewards (K,) as an ensemble gives them; those that read no centre are the members'."""
        centre = self.centre if kind in CENTRED else None
        return aggregate(self.rewards, kind, coefficient, centre)


@dataclass(frozen=True)
class Row:
    """Gold of the best of n by one aggregate, and how much more than by the mean on the same
    prompts."""

    aggregate: Aggregate
    coefficient: float
    gold: Estimate
    more: Estimate


def gold_of(lists: Sequence[JudgedList], kind: Aggregate, coefficient: float, n: int) -> Array:
    """Expected gold (G,) of the best of n draws, with replacement, by an aggregate."""
    draws = np.array([n])
    return np.array(
        [
            picked(
                one.combined(kind, coefficient),
                np.full(len(one.gold), 1 / len(one.gold)),
                draws,
            )[0]
            @ one.gold
            for one in lists
        ]
    )


def tune(
    lists: Sequence[JudgedList], kind: Penalised, grid: Sequence[float], n: int
) -> dict[float, float]:
    """Mean gold by coefficient, the best first; of equals the smallest."""
    found = {each: float(gold_of(lists, kind, each, n).mean()) for each in sorted(set(grid))}
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def report(lists: Sequence[JudgedList], kind: Penalised, coefficient: float, n: int) -> list[Row]:
    """The mean, the picked coefficient and the minimum, on lists that picked nothing."""
    kinds: list[tuple[Aggregate, float]] = [("mean", 0.0), (kind, coefficient), ("wco", 0.0)]
    gold = np.stack([gold_of(lists, *one, n) for one in kinds], axis=1)
    prompts = [one.prompt for one in lists]
    found = zip(kinds, accuracies(gold, prompts), differences(gold, prompts, 0), strict=True)
    return [Row(*one, estimate, more) for one, estimate, more in found]
