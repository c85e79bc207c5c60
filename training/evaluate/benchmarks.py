"""Figures that a shape has of its own, beside the accuracy over its pairs. Pure.

Letters: P pairs of a source, N rows of its file, F figures, R rows of the report.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec import Struct

from training.data.benchmarks import STYLES
from training.data.shapes import Pair, Shape
from training.evaluate.accuracy import Array, Estimate, Means, estimates, is_right, weighted_means
from training.evaluate.styles import DIFFICULTIES
from training.measure import Measured


class Figure(Struct, frozen=True):
    """One figure by row of the report. ``chance`` is what a random score reaches, where known."""

    rows: dict[str, Estimate]
    chance: float | None = None


Table = dict[str, Figure]
ByRow = Mapping[str, Measured]


def table(
    names: Sequence[str], rows: Sequence[str], means: Means, chance: float | None = None
) -> Table:
    """Means (F, R) by the names of figures and rows."""
    return {
        name: Figure(dict(zip(rows, estimates(values, draws), strict=True)), chance)
        for name, values, draws in zip(names, means.values, means.draws.swapaxes(0, 1), strict=True)
    }


def of_pairs(prompts: Sequence[str], measured: ByRow, weights: Array) -> Means:
    """Accuracies (F, R) over pairs with ``weights`` (P, F)."""
    right = np.stack([is_right(one.chosen, one.rejected) for one in measured.values()], axis=1)
    return weighted_means(right[:, None], weights, prompts)


def rm_bench(pairs: Sequence[Pair], prompts: Sequence[str], measured: ByRow) -> Table:
    """Accuracy by difficulty, then each chosen style against each rejected one."""
    chosen, rejected = np.array([pair.places for pair in pairs]).T
    cells = {
        f"{STYLES[i]} over {STYLES[j]}": (np.arange(9) == 3 * i + j).reshape(3, 3)
        for i in range(3)
        for j in range(3)
    }
    counted = DIFFICULTIES | cells
    weights = np.stack([counts[chosen, rejected - 3] for counts in counted.values()], axis=1)
    return table([*counted], [*measured], of_pairs(prompts, measured, weights), chance=0.5)


FIGURES: dict[Shape, Callable[[Sequence[Pair], Sequence[str], ByRow], Table]] = {
    "rm_bench": rm_bench
}


def figures_of(
    shape: Shape, pairs: Sequence[Pair], prompts: Sequence[str], measured: ByRow
) -> Table:
    """By the digests of the pairs' prompts; empty for a shape whose pairs say all."""
    return FIGURES[shape](pairs, prompts, measured) if shape in FIGURES else {}
