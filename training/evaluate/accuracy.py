"""Accuracy with intervals that respect repeated prompts. Pure.

Letters: P pairs, F figures, R rows of the report, G distinct prompts, B resamples.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from msgspec import Struct

Array = np.ndarray[Any, np.dtype[Any]]
Label = TypeVar("Label", str, tuple[int, int])

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0


class Estimate(Struct, frozen=True):
    """A figure and its 95 % interval, over prompts: another draw of the models is not in it."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """``0.757 [0.711, 0.801]``, each number by ``spec``."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def is_right(chosen: Array, rejected: Array) -> Array:
    """Whether the chosen response scores higher; a tie is wrong, as in RewardBench."""
    found: Array = chosen > rejected
    return found


class Means(NamedTuple):
    """Means (F, R) and what they are in each resample (B, F, R); NaN where there is nothing to
    average."""

    values: Array
    draws: Array


def weighted_means(
    values: Array, weights: Array, prompts: Sequence[str], seed: int = SEED
) -> Means:
    """Means of ``values``, (P, F, R) or (P, 1, R), with ``weights`` (P, F), and those when G
    prompts are drawn with replacement.

    A prompt brings all its pairs, because pairs of one prompt succeed and fail together: drawing
    pairs would count a repeated prompt as new evidence. Every figure and row sees the same draws.
    """
    _, prompt = np.unique(np.asarray(prompts), return_inverse=True)
    count = int(prompt.max()) + 1
    weighted = values * weights[:, :, None]
    sizes = np.zeros((count, weights.shape[1]))
    sums = np.zeros((count, *weighted.shape[1:]))
    np.add.at(sizes, prompt, weights)
    np.add.at(sums, prompt, weighted)
    generator = np.random.default_rng(seed)
    draws = np.empty((RESAMPLES, *weighted.shape[1:]))
    with np.errstate(invalid="ignore"):
        for draw in range(RESAMPLES):
            times = np.bincount(generator.integers(count, size=count), minlength=count)
            draws[draw] = np.tensordot(times, sums, 1) / (times @ sizes)[:, None]
        values = sums.sum(axis=0) / sizes.sum(axis=0)[:, None]
    return Means(values, draws)


def resampled(right: Array, prompts: Sequence[str], seed: int = SEED) -> Array:
    """Accuracies (B, R) of ``right`` (P, R) in each resample."""
    return weighted_means(right[:, None], np.ones((len(right), 1)), prompts, seed).draws[:, 0]


def estimates(values: Array, draws: Array) -> list[Estimate]:
    """Values (R,) with the percentiles of their draws (B, R)."""
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [Estimate(*map(float, row)) for row in zip(values, low, high, strict=True)]


def at_least(values: Array, draws: Array) -> Array:
    """What values (...) are at the least, all of them at once.

    Each less the same: what the one of them that is most above its value in a resample is above it,
    in no more than 5 % of the draws (B, ...). It grows with how many there are, and less where they
    rise and fall together (Westfall and Young, Resampling-Based Multiple Testing, 1993).
    """
    excess = (draws - values).reshape(len(draws), -1).max(axis=1)
    found: Array = values - np.quantile(excess, LEVEL)
    return found


def accuracies(right: Array, prompts: Sequence[str]) -> list[Estimate]:
    """Accuracy of each row of ``right`` (P, R)."""
    return estimates(right.mean(axis=0), resampled(right, prompts))


def differences(right: Array, prompts: Sequence[str], baseline: int) -> list[Estimate]:
    """Accuracy of each row less that of row ``baseline``, paired: both on the same draws."""
    return less(baseline, right.mean(axis=0), resampled(right, prompts))


def less(baseline: int, values: Array, draws: Array) -> list[Estimate]:
    """Values (R,) and their draws (B, R) less those of row ``baseline``."""
    return estimates(values - values[baseline], draws - draws[:, [baseline]])


def by_label(
    right: Array, prompts: Sequence[str], labels: Sequence[Label]
) -> dict[Label, list[Estimate]]:
    """Accuracies of the pairs of each label, in the labels' order."""
    places: dict[Label, list[int]] = {label: [] for label in sorted(set(labels))}
    for place, label in enumerate(labels):
        places[label].append(place)
    return {
        label: accuracies(right[own], [prompts[place] for place in own])
        for label, own in places.items()
    }
