"""Whether the probabilities that a reward model implies come true. Pure. Letters: P pairs.

Bradley-Terry's probability that one response is better than another is the sigmoid of the
difference of their raw scores. Rewards of an ensemble, in standard deviations, and lengths imply
none.
"""

import numpy as np
from msgspec import Struct
from scipy.special import expit

from training.evaluate.accuracy import Array

BINS = 10


class Bin(Struct, frozen=True):
    """Pairs of like confidence: its mean, and how often the preferred response is the right one."""

    pairs: int
    confidence: float
    accuracy: float


class Reliability(Struct, frozen=True):
    """``ece`` is the expected calibration error (arXiv:1706.04599): the mean over pairs of how far
    their bin's accuracy is from its confidence. Bins without pairs are left out."""

    ece: float
    bins: list[Bin]


def reliability(margins: Array) -> Reliability:
    """From raw margins (P,). The confidence of a pair is that of the response the model prefers,
    from one half to one; a pair with equal scores counts as half right."""
    confidence = expit(np.abs(margins.astype(np.float64)))
    right = (np.sign(margins) + 1) / 2
    place = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    bins = [
        Bin(int(own.sum()), float(confidence[own].mean()), float(right[own].mean()))
        for own in (place == number for number in range(BINS))
        if own.any()
    ]
    error = sum(one.pairs * abs(one.accuracy - one.confidence) for one in bins) / len(margins)
    return Reliability(error, bins)
