"""The logistic function of a score."""

import math


def logistic(score: float) -> float:
    """1 / (1 + exp(-score)), without overflow."""
    small = math.exp(-abs(score))
    return (1 if score >= 0 else small) / (1 + small)
