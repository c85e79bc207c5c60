"""The pairs that a row gets most wrong, named without their text. Pure."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from training.data.shapes import Pair
from training.measure import Measured

COUNT = 10
# By source, by row: pairs whose texts are shown.
Shown = dict[str, dict[str, list[Pair]]]


class Mistake(Struct, frozen=True):
    """A pair by its source's line, and how many characters its responses have."""

    line: int
    places: tuple[int, int]
    category: str
    margin: float
    chosen_length: int
    rejected_length: int


def worst(measured: Measured, count: int = COUNT) -> list[int]:
    """Places of at most ``count`` wrong pairs, the most negative margin first."""
    margins = measured.chosen - measured.rejected
    order = np.argsort(margins, kind="stable")[:count]
    return [int(place) for place in order if margins[place] < 0]


def describe(pairs: Sequence[Pair], measured: Measured) -> list[Mistake]:
    return [
        Mistake(
            line=pairs[place].line,
            places=pairs[place].places,
            category=pairs[place].category,
            margin=float(measured.chosen[place] - measured.rejected[place]),
            chosen_length=len(pairs[place].chosen),
            rejected_length=len(pairs[place].rejected),
        )
        for place in worst(measured)
    ]
