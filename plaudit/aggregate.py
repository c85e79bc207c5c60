"""From members' calibrated rewards to one reward. (N, M) in, (N,) out; pure."""

from typing import Any

import numpy as np

from plaudit.wire import Aggregate

Array = np.ndarray[Any, np.dtype[np.float64]]

# Coefficients used when a request and its ensemble name none: Coste et al. use 0.5 for best-of-n.
DEFAULT_COEFFICIENT = 0.5


def mean(rewards: Array) -> Array:
    found: Array = rewards.mean(axis=1)
    return found


def variance(rewards: Array) -> Array | None:
    """Sample variance over members (ddof 1); None for one member, which cannot disagree."""
    return None if rewards.shape[1] < 2 else rewards.var(axis=1, ddof=1)


def aggregate(rewards: Array, kind: Aggregate, coefficient: float) -> Array:
    """Combine members as ``kind`` says.

    ``wco`` is the minimum, ``uwo`` mean - coefficient * variance (arXiv:2310.02743), ``lcb`` mean -
    coefficient * std. Members must share a scale, so rewards are calibrated before. One member has
    no variance: ``uwo`` and ``lcb`` are then its reward.
    """
    spread = variance(rewards)
    penalty: Array = np.zeros(len(rewards)) if spread is None else spread
    match kind:
        case "mean":
            return mean(rewards)
        case "median":
            return np.median(rewards, axis=1)
        case "wco":
            found: Array = rewards.min(axis=1)
            return found
        case "uwo":
            return mean(rewards) - coefficient * penalty
        case "lcb":
            return mean(rewards) - coefficient * np.sqrt(penalty)
