"""From the S items of a request that have a reward back to all N of them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


class Places:
    """Where the S items stand among N; the others are null, and so is what is not finite."""

    def __init__(self, places: Sequence[int], count: int):
        self._places, self._count = places, count

    def floats(self, values: Array) -> list[float | None]:
        found: list[float | None] = [None] * self._count
        for place, value in zip(self._places, values.tolist(), strict=True):
            found[place] = none_unless_finite(value)
        return found

    def rows(self, values: Array) -> list[list[float] | None]:
        found: list[list[float] | None] = [None] * self._count
        for place, row in zip(self._places, values.tolist(), strict=True):
            found[place] = row
        return found


def none_unless_finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
