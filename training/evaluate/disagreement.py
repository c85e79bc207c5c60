"""Whether an ensemble errs where its members disagree. Pure. Letters: P pairs, M members."""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from sklearn.metrics import roc_auc_score

from training.evaluate.accuracy import Array
from training.evaluate.candidates import Candidates
from training.measure import Measured

LEVELS = 5


class Level(Struct, frozen=True):
    """Pairs of like disagreement: its mean, and the ensemble's accuracy."""

    pairs: int
    disagreement: float
    accuracy: float


class Disagreement(Struct, frozen=True):
    """``auc`` is the probability that a pair the ensemble gets wrong has the larger disagreement
    than one it gets right; one half knows nothing; None where all are right, or all wrong."""

    auc: float | None
    levels: list[Level]


def member_margins(candidates: Candidates, rewarded: Mapping[str, Measured]) -> dict[str, Array]:
    """Differences (M, P) of the members' rewards, by ensemble of two members or more."""
    return {
        one.name: np.stack([rewarded[m].chosen - rewarded[m].rejected for m in one.members])
        for one in candidates.ensembles
        if len(one.members) > 1
    }


def disagreement(margins: Array, right: Array) -> Disagreement:
    """From the members' margins (M, P), and whether the ensemble is right (P,).

    Disagreement is the standard deviation over members (ddof 1) of the margin.
    """
    found = margins.std(axis=0, ddof=1)
    order = np.argsort(found, kind="stable")
    levels = [
        Level(len(own), float(found[own].mean()), float(right[own].mean()))
        for own in np.array_split(order, min(LEVELS, len(order)))
    ]
    mixed = right.any() and not right.all()
    return Disagreement(float(roc_auc_score(~right, found)) if mixed else None, levels)
