"""What preference strength shows of a data file, in numbers and in one drawing.

Letters: P pairs, G groups of equal size from the weakest to the strongest.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import replace

from training.measure import Array
from training.noise.strength import MEAN, STD, auc_of_wrong_labels, by_strength

BINS = 40
GROUPS = 20
DECILES = 10


class StrengthFigures(Struct, frozen=True):
    """Histogram of the mean (``counts``, and of wrong labels where they are known), mean and
    deviation of each of 20 groups, and what is known of wrong labels: their share in each decile
    and the AUC of finding them."""

    pairs: int
    below_zero: float
    edges: list[float]
    counts: list[int]
    means: list[float]
    deviations: list[float]
    wrong_counts: list[int] | None = None
    wrong_by_decile: list[float] | None = None
    auc: float | None = None


def measure(rows: Sequence[dict[str, Any]], wrong: str | None) -> StrengthFigures:
    """Figures of rows with ``mean_diff`` and ``std_diff``; ``wrong`` names a column of booleans."""
    mean, std = (np.array([row[name] for row in rows], np.float64) for name in (MEAN, STD))
    known = None if wrong is None else np.array([bool(row[wrong]) for row in rows])
    return of(mean, std, known)


def of(mean: Array, std: Array, wrong: Array | None) -> StrengthFigures:
    """Figures of means and deviations (P,), and of whether each label is known to be wrong (P,)."""
    counts, edges = np.histogram(mean, BINS)
    found = StrengthFigures(
        pairs=len(mean),
        below_zero=float((mean < 0).mean()),
        edges=edges.tolist(),
        counts=counts.tolist(),
        means=by_strength(mean, mean, GROUPS).tolist(),
        deviations=by_strength(mean, std, GROUPS).tolist(),
    )
    if wrong is None or not wrong.any() or wrong.all():
        return found
    return replace(
        found,
        wrong_counts=np.histogram(mean[wrong], edges)[0].tolist(),
        wrong_by_decile=by_strength(mean, wrong.astype(float), DECILES).tolist(),
        auc=auc_of_wrong_labels(mean, wrong),
    )


def draw(found: StrengthFigures) -> str:
    """An SVG: histogram of the mean, deviation over mean, and agreement by decile if known."""
    known = found.wrong_by_decile is not None
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "plaudit", "font.size": 8}):
        figure = Figure(figsize=(9 if known else 6, 2.6), layout="constrained")
        axes = figure.subplots(1, 3 if known else 2)
        _histogram(axes[0], found)
        _deviation(axes[1], found)
        if known:
            _agreement(axes[2], found)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _histogram(axis: Axes, found: StrengthFigures) -> None:
    axis.stairs(found.counts, found.edges, fill=True, alpha=0.4, label="all")
    if found.wrong_counts is not None:
        axis.stairs(found.wrong_counts, found.edges, fill=True, alpha=0.6, label="wrong label")
        axis.legend(frameon=False)
    axis.axvline(0, color="grey", linewidth=0.7)
    axis.set(xlabel="mean_diff", ylabel="pairs")


def _deviation(axis: Axes, found: StrengthFigures) -> None:
    axis.plot(found.means, found.deviations, marker="o", markersize=3)
    axis.set(xlabel="mean_diff of a group", ylabel="mean std_diff", ylim=(0, None))


def _agreement(axis: Axes, found: StrengthFigures) -> None:
    assert found.wrong_by_decile is not None
    axis.bar(range(1, DECILES + 1), [1 - share for share in found.wrong_by_decile])
    axis.set(xlabel="decile of mean_diff", ylabel="share of right labels", ylim=(0, 1))
