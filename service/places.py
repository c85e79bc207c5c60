"""From the S items of a request that were scored back to all N of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


class Places:
    """Where the S scored items stand among N; the others are null."""

    def __init__(self, places: Sequence[int], count: int):
        self._places, self._count = places, count

    def floats(self, values: Array | None) -> list[float | None]:
        found: list[float | None] = [None] * self._count
        if values is not None:
            for place, value in zip(self._places, values.tolist(), strict=True):
                found[place] = value
        return found

    def rows(self, values: Array) -> list[list[float] | None]:
        found: list[list[float] | None] = [None] * self._count
        for place, row in zip(self._places, values.tolist(), strict=True):
            found[place] = row
        return found
