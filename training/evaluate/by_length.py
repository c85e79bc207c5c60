"""Scores and accuracy over the length of responses. Pure; lengths in characters."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from training.data.shapes import Pair
from training.measure import Array, Measured

GROUPS = 10
PAIR_GROUPS = 5


class ByLength(Struct, frozen=True):
    """Responses in groups of like length: its median, and the scores' quartiles."""

    length: list[float]
    low: list[float]
    median: list[float]
    high: list[float]


def by_length(measured: Measured, lengths: Measured) -> ByLength:
    """Of all responses, as many in each group as equal lengths allow."""
    characters = np.concatenate([lengths.chosen, lengths.rejected])
    scores = np.concatenate([measured.chosen, measured.rejected]).astype(np.float64)
    place = places(characters, GROUPS)
    groups = [place == number for number in np.unique(place)]
    quartiles = np.array([np.quantile(scores[own], [0.25, 0.5, 0.75]) for own in groups])
    low, median, high = quartiles.T.tolist()
    return ByLength([float(np.median(characters[own])) for own in groups], low, median, high)


def places(lengths: Array, count: int) -> Array:
    """The group of each length, of at most ``count`` that follow each other: equal lengths share
    one."""
    inner = np.quantile(lengths, np.linspace(0, 1, count + 1)[1:-1])
    return np.searchsorted(np.unique(inner), lengths, side="left")


def length_ranges(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """The least and the most that longer responses have in each pair's group: fifths of the pairs,
    as equal as lengths allow."""
    longer = np.array([max(len(pair.chosen), len(pair.rejected)) for pair in pairs])
    place = places(longer, PAIR_GROUPS)
    ranges = {
        number: (int(longer[place == number].min()), int(longer[place == number].max()))
        for number in np.unique(place)
    }
    return [ranges[number] for number in place]
