"""Preference strength: how far models that never saw a pair order it as its label does. Pure.

Letters: P pairs, M members, G groups of pairs sorted by strength.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from training.measure import Array

# What a data file holds of it.
MEAN, STD, FOLD = "mean_diff", "std_diff", "fold"


@dataclass(frozen=True)
class Strength:
    """Mean and standard deviation (P,) over members of ``score(chosen) - score(rejected)``."""

    mean: Array
    std: Array

    @classmethod
    def of(cls, margins: Array) -> "Strength":
        """Of margins (M, P). The deviation is the population's, ddof 0 (arXiv:2401.06080 eq. 4)."""
        return cls(margins.mean(axis=0), margins.std(axis=0))


def by_strength(mean: Array, values: Array, groups: int) -> Array:
    """Means (G,) of ``values`` (P,) over equal groups of pairs, from the weakest to the
    strongest."""
    order = np.argsort(mean, kind="stable")
    return np.array([values[group].mean() for group in np.array_split(order, groups)])


def auc_of_wrong_labels(mean: Array, wrong: Array) -> float:
    """Probability that a wrongly labelled pair is weaker than a rightly labelled one; ties count
    half. ``wrong`` (P,) is boolean."""
    wrong_count = int(wrong.sum())
    right_count = len(wrong) - wrong_count
    ranks = rankdata(-mean)
    above = ranks[wrong].sum() - wrong_count * (wrong_count + 1) / 2
    return float(above / (wrong_count * right_count))
