"""Scores of whole lists of responses, some of which are right. Pure.

Letters: K responses of a list, R rows of the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.data.shapes import Pair
from training.evaluate.accuracy import Array
from training.measure import Measured


@dataclass(frozen=True)
class ScoredList:
    """Scores (K, R) of the responses that stand in a pair, and which of them (K,) beat another and
    are beaten by none. ``first`` is the place of the list's first pair."""

    first: int
    pair: Pair
    scores: Array
    right: Array


def scored_lists(pairs: Sequence[Pair], measured: Mapping[str, Measured]) -> list[ScoredList]:
    """The lists that the pairs come from, in their order; not those in which every response is
    beaten."""
    chosen, rejected = (
        np.stack([getattr(one, side) for one in measured.values()], axis=1)
        for side in ("chosen", "rejected")
    )
    places: dict[int, list[int]] = {}
    for place, pair in enumerate(pairs):
        places.setdefault(pair.line, []).append(place)
    found = []
    for own in places.values():
        scores = {pairs[i].places[1]: rejected[i] for i in own}
        scores |= {pairs[i].places[0]: chosen[i] for i in own}
        beaten = {pairs[i].places[1] for i in own}
        order = sorted(scores)
        right = np.array([response not in beaten for response in order])
        if right.any():
            stacked = np.stack([scores[response] for response in order])
            found.append(ScoredList(own[0], pairs[own[0]], stacked, right))
    return found


def top_credit(scores: Array, right: Array) -> Array:
    """Credit (R,) of picking the response that scores highest, of scores (K, R).

    The share of right ones among those that tie for the top: what picking one of them at random
    gets. One right response gives RewardBench 2's credit, one over the number that tie.
    """
    top = scores == scores.max(axis=0)
    found: Array = (top & right[:, None]).sum(axis=0) / top.sum(axis=0)
    return found
