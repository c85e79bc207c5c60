"""How far scores have moved from those of the checkpoint's reference set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plaudit.checkpoint import Stats
from service.windows import Array

# Fewer scores than this say little of a distribution: PSI's own noise is about bins / scores.
MIN_SCORES = 1000
# What a bin has at least, in scores: an empty bin must not make the index infinite.
EPSILON = 0.5


@dataclass(frozen=True)
class Reference:
    """Bins that end at ``edges``, their shares (one more than edges) of the reference's scores, its
    mean and standard deviation; ``starts``: the bins that stand for themselves in the index."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    mean: float
    std: float
    starts: tuple[int, ...]

    @classmethod
    def of(cls, stats: Stats) -> "Reference":
        """Quantiles that are equal, as of a model with few distinct scores, are one edge."""
        steps = len(stats.quantiles) + 1
        below = {edge: (i + 1) / steps for i, edge in enumerate(stats.quantiles)}
        bounds = [0.0, *below.values(), 1.0]
        shares = np.diff(bounds)
        # One step above an edge of several quantiles: that edge's own scores may fill it, so that
        # nothing of the reference is left in the bin itself.
        repeated = shares[:-1] > 1.5 / steps
        doubtful = [False, *(repeated & (shares[1:] < 1.5 / steps))]
        starts = tuple(i for i, merged in enumerate(doubtful) if not merged)
        return cls(tuple(below), tuple(shares.tolist()), stats.mean, stats.std, starts)

    def psi(self, counts: Array) -> float:
        """Of scores counted by bin, against this; bins that the reference may not reach count with
        the one below."""
        shares = np.add.reduceat(np.asarray(self.shares), self.starts)
        return psi(np.add.reduceat(counts, self.starts), shares.tolist())


def psi(counts: Array | Sequence[float], shares: Sequence[float]) -> float:
    """The population stability index: the sum over bins of (p - q) ln(p / q), p being the shares of
    ``counts`` and q ``shares``. 0: the same; by custom over 0.1 is a shift, over 0.25 a large
    one."""
    smoothed = np.asarray(counts) + EPSILON
    p, q = smoothed / smoothed.sum(), np.asarray(shares)
    return float(((p - q) * np.log(p / q)).sum())
