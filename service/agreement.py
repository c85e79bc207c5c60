"""How far the members of an ensemble agree, over the last 15 minutes."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from service.score_stream import FEW
from service.windows import Array, Window, pearson

SECONDS, SLOTS = 900, 30
# In rewards, whose unit is the spread of a member's own reference scores: unrelated members would
# lie about this far apart.
APART = 1.0


class Agreement:
    """``members`` are names, in the order of the columns that come."""

    def __init__(self, members: Sequence[str], clock: Callable[[], float] = time.monotonic):
        self._members, self._clock = members, clock
        size = len(members) + 1
        self._products = Window(SECONDS, SLOTS, (size, size))
        self._apart = Window(SECONDS, SLOTS, (2,))

    def add(self, scores: Array, variances: Sequence[float]) -> None:
        """Raw scores (S, M) of the items that every member scored, and variances of members'
        rewards, also where one was missing."""
        now = self._clock()
        if len(scores):
            rows = np.column_stack([np.ones(len(scores)), scores])
            self._products.add(rows.T @ rows, now)
        far = sum(1 for variance in variances if math.sqrt(variance) > APART)
        self._apart.add(np.array([len(variances), far], float), now)

    def disagreement(self) -> float | None:
        """Share of rewards whose members' rewards have a standard deviation over ``APART``."""
        count, far = self._apart.total(self._clock())
        return float(far / count) if count >= FEW else None

    def correlations(self) -> Iterator[tuple[str, str, float]]:
        """Pearson's, of the raw scores of every two members."""
        products = self._products.total(self._clock())
        if products[0, 0] < FEW:
            return
        found = pearson(products)
        for i, j in itertools.combinations(range(len(self._members)), 2):
            if not math.isnan(found[i, j]):
                yield self._members[i], self._members[j], float(found[i, j])
