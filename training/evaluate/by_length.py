"""Scores over the length of the response. Pure; lengths in characters."""

import numpy as np
from msgspec import Struct

from training.measure import Measured

GROUPS = 10


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
    inner = np.quantile(characters, np.linspace(0, 1, GROUPS + 1)[1:-1])
    place = np.searchsorted(np.unique(inner), characters, side="left")
    groups = [place == number for number in np.unique(place)]
    quartiles = np.array([np.quantile(scores[own], [0.25, 0.5, 0.75]) for own in groups])
    low, median, high = quartiles.T.tolist()
    return ByLength([float(np.median(characters[own])) for own in groups], low, median, high)
