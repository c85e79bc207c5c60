"""What length alone achieves, and how far a score follows it. Pure; lengths in characters."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from training.data.shapes import Pair
from training.measure import Measured

LENGTH_ONLY = "length-only"


def length_only(pairs: Sequence[Pair]) -> Measured:
    """The baseline "the longer response wins": a response's score is its length."""
    chosen = np.array([len(pair.chosen) for pair in pairs], dtype=np.float64)
    rejected = np.array([len(pair.rejected) for pair in pairs], dtype=np.float64)
    return Measured(chosen, rejected)


def length_correlation(measured: Measured, pairs: Sequence[Pair]) -> float | None:
    """Spearman's rank correlation of score and length over all responses; None if one is
    constant."""
    scores = np.concatenate([measured.chosen, measured.rejected])
    lengths = length_only(pairs)
    characters = np.concatenate([lengths.chosen, lengths.rejected])
    if np.ptp(scores) == 0 or np.ptp(characters) == 0:
        return None
    return float(spearmanr(scores, characters).statistic)
