"""What preference strength shows of a data file, in numbers.

Letters: P pairs, G groups of equal size from the weakest to the strongest.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from training.data.jsonlines import Row
from training.measure import Array
from training.noise.strength import MEAN, STD, auc_of_wrong_labels, by_strength

BINS = 40
GROUPS = 20
DECILES = 10


class StrengthFigures(Struct, frozen=True):
    """Histogram of the mean (``counts``, and of wrong labels where they are known), mean and
    deviation of each of 20 groups, and what is known of wrong labels: their share in each decile
    and the AUC of finding them. Fewer pairs make fewer groups."""

    pairs: int
    below_zero: float
    edges: list[float]
    counts: list[int]
    means: list[float]
    deviations: list[float]
    wrong_counts: list[int] | None = None
    wrong_by_decile: list[float] | None = None
    auc: float | None = None


def measure(rows: Sequence[Row], wrong: str | None) -> StrengthFigures:
    """Figures of rows with ``mean_diff`` and ``std_diff``; ``wrong`` names a column of booleans."""
    mean, std = (np.array([row[name] for row in rows], np.float64) for name in (MEAN, STD))
    known = None if wrong is None else np.array([row[wrong] for row in rows], bool)
    return of(mean, std, known)


def of(mean: Array, std: Array, wrong: Array | None) -> StrengthFigures:
    """Figures of means and deviations (P,), and of whether each label is known to be wrong (P,)."""
    counts, edges = np.histogram(mean, BINS)
    groups = min(GROUPS, len(mean))
    found = StrengthFigures(
        pairs=len(mean),
        below_zero=float((mean < 0).mean()),
        edges=edges.tolist(),
        counts=counts.tolist(),
        means=by_strength(mean, mean, groups).tolist(),
        deviations=by_strength(mean, std, groups).tolist(),
    )
    if wrong is None or not wrong.any() or wrong.all():
        return found
    deciles = min(DECILES, len(mean))
    return replace(
        found,
        wrong_counts=np.histogram(mean[wrong], edges)[0].tolist(),
        wrong_by_decile=by_strength(mean, wrong.astype(float), deciles).tolist(),
        auc=auc_of_wrong_labels(mean, wrong),
    )
