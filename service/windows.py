"""Sums over the last minutes or hours, in bounded memory."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


class Window:
    """Sums of arrays over the last ``seconds``, kept in ``slots`` parts; the oldest leaves whole.

    Times are of a clock that only goes forward, in seconds.
    """

    def __init__(self, seconds: float, slots: int, shape: tuple[int, ...]):
        self._seconds = seconds / slots
        self._parts = np.zeros((slots, *shape))
        self._slot = 0

    def add(self, values: Array, now: float) -> None:
        self._turn(now)
        self._parts[self._slot % len(self._parts)] += values

    def total(self, now: float) -> Array:
        self._turn(now)
        found: Array = self._parts.sum(axis=0)
        return found

    def _turn(self, now: float) -> None:
        slot = int(now // self._seconds)
        for gone in range(1, min(slot - self._slot, len(self._parts)) + 1):
            self._parts[(self._slot + gone) % len(self._parts)] = 0
        self._slot = slot


def pearson(gram: Array) -> Array:
    """Correlations (M, M) of M variables from sums of products (M + 1, M + 1) of rows that begin
    with a one; NaN where one of two variables does not vary."""
    count, sums = gram[0, 0], gram[0, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = gram[1:, 1:] - np.outer(sums, sums) / count
        spread = np.diagonal(covariance).copy()
        # What rounding leaves of a constant is no spread.
        spread[spread <= 1e-12 * np.diagonal(gram)[1:]] = np.nan
        found: Array = covariance / np.sqrt(np.outer(spread, spread))
    return found
