"""The scores of one model as they are computed: counted in bins, over all time and over windows."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from plaudit.checkpoint import Stats
from service.drift import MIN_SCORES, Reference
from service.windows import Array, Window, pearson

# Of models without reward.json; the others' are their own quantiles.
FIXED_EDGES = tuple(float(i) / 2 for i in range(-12, 13))
# Fewer scores than this make no ratio and no correlation.
FEW = 100
FOLD_SECONDS = 30.0
# Places in a row of sums; the bins' counts follow. X is a score less the reference's mean, L the
# characters of its response. PAIRS counts scores whose length is known; the sums after it are
# theirs.
N, X, XX, PAIRS, PAIR_X, L, PAIR_XX, LL, XL = range(9)
BINS = 9


class ScoreStream:
    """``clock`` gives seconds and only goes forward. What is added costs no allocation; sums since
    the last fold go to the windows at the next, at most ``FOLD_SECONDS`` later."""

    def __init__(self, stats: Stats | None, clock: Callable[[], float] = time.monotonic):
        self.reference = None if stats is None else Reference.of(stats)
        self.edges = FIXED_EDGES if self.reference is None else self.reference.edges
        self._shift = 0.0 if self.reference is None else self.reference.mean
        self._clock = clock
        width = BINS + len(self.edges) + 1
        self._all_time, self._open = np.zeros(width), [0.0] * width
        self._folds_at = clock() + FOLD_SECONDS
        self._windows = {
            "15m": Window(900, 30, (width,)),
            "24h": Window(86_400, 96, (width,)),
        }

    def add(self, score: float, characters: int | None) -> None:
        """A finite score, and the length of its response where that is known."""
        now = self._clock()
        if now >= self._folds_at:
            self._fold(now)
        x, sums = score - self._shift, self._open
        sums[N] += 1
        sums[X] += x
        sums[XX] += x * x
        sums[BINS + bisect_left(self.edges, score)] += 1
        if characters is not None:
            sums[PAIRS] += 1
            sums[PAIR_X] += x
            sums[PAIR_XX] += x * x
            sums[L] += characters
            sums[LL] += characters * characters
            sums[XL] += x * characters

    def _fold(self, now: float) -> None:
        row = np.array(self._open)
        self._all_time += row
        for window in self._windows.values():
            # They came before this, however long nobody has called since.
            window.add(row, min(now, self._folds_at))
        self._open = [0.0] * len(row)
        self._folds_at = now + FOLD_SECONDS

    def _recent(self, window: str = "15m") -> Array:
        now = self._clock()
        self._fold(now)
        return self._windows[window].total(now)

    def counts(self) -> list[float]:
        """Of each bin, since the start."""
        self._fold(self._clock())
        found: list[float] = self._all_time[BINS:].tolist()
        return found

    def psi(self, window: str) -> float | None:
        """Against the reference; None without one, or for fewer than ``MIN_SCORES`` scores."""
        sums = self._recent(window)
        if self.reference is None or sums[N] < MIN_SCORES:
            return None
        return self.reference.psi(sums[BINS:])

    def mean(self) -> float | None:
        """Of the last 15 minutes, as all below."""
        sums = self._recent()
        return float(self._shift + sums[X] / sums[N]) if sums[N] else None

    def std(self) -> float | None:
        """With ddof 1, as the reference's."""
        sums = self._recent()
        if sums[N] < 2:
            return None
        squares = float(sums[XX] - sums[X] ** 2 / sums[N])
        return math.sqrt(max(0.0, squares) / (float(sums[N]) - 1))

    def saturation(self) -> float | None:
        """Share of scores beyond the outermost quantiles of the reference."""
        sums = self._recent()
        if self.reference is None or sums[N] < FEW:
            return None
        return float((sums[BINS] + sums[-1]) / sums[N])

    def length_correlation(self) -> float | None:
        """Pearson's, of scores with the lengths of their responses."""
        s = self._recent()
        if s[PAIRS] < FEW:
            return None
        gram = [
            [s[PAIRS], s[PAIR_X], s[L]],
            [s[PAIR_X], s[PAIR_XX], s[XL]],
            [s[L], s[XL], s[LL]],
        ]
        found = float(pearson(np.array(gram))[0, 1])
        return None if math.isnan(found) else found
