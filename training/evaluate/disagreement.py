"""Whether an ensemble errs where its members disagree. Pure. Letters: P pairs, M members."""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from sklearn.metrics import roc_auc_score

from plaudit.checkpoint import Calibration
from training.evaluate.accuracy import Array
from training.evaluate.candidates import Candidates, Ensemble
from training.evaluate.evaluation import calibrated
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


def member_margins(
    ensemble: Ensemble, calibrations: Mapping[str, Calibration], rows: Mapping[str, Measured]
) -> Array:
    """Differences (M, P) of the members' rewards."""
    return np.stack(
        [
            calibrated(calibrations[name], rows[name].chosen)
            - calibrated(calibrations[name], rows[name].rejected)
            for name in ensemble.members
        ]
    )


def all_member_margins(candidates: Candidates, rows: Mapping[str, Measured]) -> dict[str, Array]:
    """By ensemble, of those with two members or more."""
    calibrations = {n: c.manifest.calibration for n, c in candidates.checkpoints.items()}
    return {
        one.name: member_margins(one, calibrations, rows)
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
