"""From members' calibrated rewards to one reward. (N, M) in, (N,) out; pure.

NaN stands for a member that did not score an item; what is computed is over those that did, of
which every item has at least one.
"""

from typing import Any

import numpy as np

from plaudit.wire import Aggregate

Array = np.ndarray[Any, np.dtype[np.float64]]

# Coefficients used when a request and its ensemble name none: Coste et al. use 0.5 for best-of-n.
DEFAULT_COEFFICIENT = 0.5
# Those that are a centre, less a multiple of the members' disagreement.
CENTRED: frozenset[Aggregate] = frozenset({"mean", "lcb", "uwo"})
# Those that need a disagreement: where it is unknown, nothing would be subtracted.
PENALISED: frozenset[Aggregate] = frozenset({"lcb", "uwo"})


def mean(rewards: Array) -> Array:
    found: Array = np.nanmean(rewards, axis=1)
    return found


def variance(rewards: Array) -> Array:
    """Sample variance over members (ddof 1); NaN where one alone scored: it cannot disagree."""
    found = np.full(len(rewards), np.nan)
    several = (~np.isnan(rewards)).sum(axis=1) > 1
    found[several] = np.nanvar(rewards[several], axis=1, ddof=1)
    return found


def aggregate(
    rewards: Array, kind: Aggregate, coefficient: float, centre: Array | None = None
) -> Array:
    """Combine members as ``kind`` says.

    ``wco`` is the minimum, ``uwo`` mean - coefficient * variance (arXiv:2310.02743), ``lcb`` mean -
    coefficient * std. Members must share a scale, so rewards are calibrated before. Where one alone
    scored there is no variance: ``uwo`` and ``lcb`` are then its reward.

    With a ``centre`` (N,), the calibrated rewards of another model such as the members' average
    (arXiv:2401.12187), these stand in the place of the mean. ValueError for a kind not in CENTRED,
    which has no such place.
    """
    if centre is not None and kind not in CENTRED:
        raise ValueError(refused_centre(kind))
    middle = mean(rewards) if centre is None else centre
    penalty = np.nan_to_num(variance(rewards))
    match kind:
        case "mean":
            return middle
        case "median":
            return np.nanmedian(rewards, axis=1)
        case "wco":
            found: Array = np.nanmin(rewards, axis=1)
            return found
        case "uwo":
            return middle - coefficient * penalty
        case "lcb":
            return middle - coefficient * np.sqrt(penalty)


def needed(kind: Aggregate, members: int, min_members: int) -> int:
    """How many of an ensemble's members must score an item for its reward.

    At least two, if there are two, where their disagreement is subtracted: an unknown penalty is
    not a penalty of zero.
    """
    return max(min_members, min(2, members)) if kind in PENALISED else min_members


def refused_centre(kind: Aggregate) -> str:
    """Why an ensemble with a centre has no such aggregate."""
    return f"{kind} would not read the centre; use one of {sorted(CENTRED)}, or leave centre out"
