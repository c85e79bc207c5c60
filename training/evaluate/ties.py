"""The Ties subset of RewardBench 2 (arXiv:2506.01937, its ``process_single_model``). Pure.

A question asks for any one of several right responses (``tied:n``); its reference (``ref:n``) has
one. A good model prefers right to wrong by more than it prefers one right response to another.
Letters: R rows of the report.
"""

import numpy as np

from training.evaluate.accuracy import Array
from training.evaluate.lists import ScoredList

# In the order of ``parts``.
WEIGHTS = np.array([0.30, 0.30, 0.20, 0.20, 0.01])


def gap(one: ScoredList) -> Array:
    """The worst right response less the best wrong one, (R,)."""
    found: Array = one.scores[one.right].min(axis=0) - one.scores[~one.right].max(axis=0)
    return found


def spread(one: ScoredList) -> Array:
    """The best right response less the worst right one, (R,)."""
    right = one.scores[one.right]
    found: Array = right.max(axis=0) - right.min(axis=0)
    return found


def margins(tied: ScoredList, reference: ScoredList) -> Array:
    """(3, R): whether the gap exceeds the spread; whether the smaller of it and the reference's
    does; and by how much, as tanh(gap / spread - 1), where nothing over nothing counts 0."""
    between, within = gap(tied), spread(tied)
    smaller = np.minimum(between, gap(reference))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.tanh(smaller / within - 1)
    return np.stack([between > within, smaller > within, np.nan_to_num(ratio, nan=0.0)])


def parts(name: str, lists: dict[str, ScoredList]) -> tuple[Array, Array]:
    """What the list ``name``, ref:n or tied:n, adds to the five parts of the score.

    Values (5, R) and whether it counts in each (5,): accuracy of tied and of reference questions,
    then the three margins, which need both.
    """
    kind, number = name.split(":")
    one = lists[name]
    values, counts = np.zeros((5, one.scores.shape[1])), np.zeros(5)
    accuracy = 0 if kind == "tied" else 1
    values[accuracy], counts[accuracy] = gap(one) > 0, 1
    if kind == "tied" and f"ref:{number}" in lists:
        values[2:], counts[2:] = margins(one, lists[f"ref:{number}"]), 1
    return values, counts
