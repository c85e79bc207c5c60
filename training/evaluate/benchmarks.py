"""Figures that a shape has of its own, beside the accuracy over its pairs. Pure.

Letters: P pairs of a source, N rows of its file, F figures, R rows of the report.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec import Struct

from training.data.benchmarks import MATH_PRM, MATH_PRM_WEIGHT, SECTIONS, STYLES, SUBSETS, TIES
from training.data.shapes import Pair, Shape
from training.evaluate import ties
from training.evaluate.accuracy import Array, Estimate, Means, estimates, is_right, weighted_means
from training.evaluate.lists import scored_lists, top_credit
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


def rewardbench(pairs: Sequence[Pair], prompts: Sequence[str], measured: ByRow) -> Table:
    """Accuracy by section over its pairs, math-prm weighted as if it had as many as the code, and
    the mean of the sections that are there."""
    subsets = np.array([pair.category for pair in pairs])
    weights = np.stack([np.isin(subsets, section) for section in SECTIONS.values()], axis=1)
    weights = weights * np.where(subsets == MATH_PRM, MATH_PRM_WEIGHT, 1)[:, None]
    means = of_pairs(prompts, measured, weights)
    return present([*SECTIONS], [*measured], means, chance=0.5)


def top_of_lists(pairs: Sequence[Pair], prompts: Sequence[str], measured: ByRow) -> Table:
    """How often the response that scores highest is one that no other beats."""
    lists = scored_lists(pairs, measured)
    if not lists:
        return {}
    credit = np.stack([top_credit(one.scores, one.right) for one in lists])
    units = [prompts[one.first] for one in lists]
    means = weighted_means(credit[:, None], np.ones((len(lists), 1)), units)
    chance = float(np.mean([one.right.mean() for one in lists]))
    return table(["best of N"], [*measured], means, chance)


def rewardbench2(pairs: Sequence[Pair], prompts: Sequence[str], measured: ByRow) -> Table:
    """Best of four in each subset that is there, the score of Ties, and the mean of these.

    What is drawn together is a prompt, and in Ties a question with its reference.
    """
    lists = scored_lists(pairs, measured)
    named = {one.pair.rest["id"]: one for one in lists if one.pair.category == TIES}
    plain = [name for name in SUBSETS if name != TIES]
    values = np.zeros((len(lists), len(plain) + len(ties.WEIGHTS), len(measured)))
    weights = np.zeros(values.shape[:2])
    units = []
    for i, one in enumerate(lists):
        if one.pair.category == TIES:
            name = one.pair.rest["id"]
            values[i, len(plain) :], weights[i, len(plain) :] = ties.parts(name, named)
            units.append(f"{TIES} {name.partition(':')[2]}")
        else:
            subset = plain.index(one.pair.category)
            values[i, subset], weights[i, subset] = top_credit(one.scores, one.right), 1
            units.append(prompts[one.first])
    means = weighted_means(values, weights, units)
    score = weighted_sum(means, len(plain), ties.WEIGHTS)
    return present([*plain, TIES], [*measured], score)


def weighted_sum(means: Means, first: int, weights: Array) -> Means:
    """The figures before ``first``, and the sum of the others with ``weights``."""
    value = np.tensordot(weights, means.values[first:], 1)
    draws = np.einsum("f,bfr->br", weights, means.draws[:, first:])
    return Means(
        np.vstack([means.values[:first], value]),
        np.concatenate([means.draws[:, :first], draws[:, None]], axis=1),
    )


def present(
    names: Sequence[str], rows: Sequence[str], means: Means, chance: float | None = None
) -> Table:
    """The figures that rows of the file count in, and their unweighted mean."""
    there = np.flatnonzero(np.isfinite(means.values).all(axis=1))
    values, draws = means.values[there], means.draws[:, there]
    found = Means(
        np.vstack([values, values.mean(axis=0)]),
        np.concatenate([draws, draws.mean(axis=1, keepdims=True)], axis=1),
    )
    return table([*(names[int(i)] for i in there), "mean"], rows, found, chance)


FIGURES: dict[Shape, Callable[[Sequence[Pair], Sequence[str], ByRow], Table]] = {
    "lists": top_of_lists,
    "rm_bench": rm_bench,
    "rewardbench": rewardbench,
    "rewardbench2": rewardbench2,
}


def figures_of(
    shape: Shape, pairs: Sequence[Pair], prompts: Sequence[str], measured: ByRow
) -> Table:
    """By the digests of the pairs' prompts; empty for a shape whose pairs say all."""
    return FIGURES[shape](pairs, prompts, measured) if shape in FIGURES else {}
