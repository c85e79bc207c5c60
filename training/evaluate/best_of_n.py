"""Best-of-n without sampling: what picking the best of n draws by a proxy gives in gold. Pure.

The n responses are drawn with replacement from a pool whose members have weights, so the pick's
distribution is that of the largest of n draws, an exact sum over the pool for any n.

Letters: K responses of a pool, S numbers of draws.
"""

from typing import NamedTuple

import numpy as np

from training.evaluate.accuracy import Array


def picked(proxy: Array, weights: Array, n: Array) -> Array:
    """The probability (S, K) that each response is the one picked, for each number of draws (S,).

    ``proxy`` (K,) decides; ``weights`` (K,) are the chances of a draw and sum to one. Of draws that
    tie for the best one is picked at random, so responses that tie share by their weights. A
    response of weight zero is never drawn.
    """
    _, level = np.unique(proxy, return_inverse=True)
    mass = np.bincount(level, weights)
    # Best at a level or below it: every draw is. The last is one, whatever the sum rounds to.
    below = np.append(0.0, np.minimum(np.cumsum(mass), 1.0))
    below[-1] = 1.0
    best = np.diff(below ** n[:, None], axis=1)
    shares = np.divide(weights, mass[level], out=np.zeros_like(weights), where=weights > 0)
    found: Array = best[:, level] * shares
    return found


def kl(n: Array) -> Array:
    """KL divergence (S,) in nats of best-of-n from one draw, ``log n - (n - 1) / n``.

    Exact for a proxy without ties over endlessly many responses; for a pool of K of them, which one
    draw may hit twice, an upper bound (arXiv:2401.01879). It is the axis of arXiv:2210.10760.
    """
    found: Array = np.log(n) - (n - 1) / n
    return found


class Curve(NamedTuple):
    """``R(d) = d (a - b d)`` with ``d = sqrt(KL)`` (arXiv:2210.10760): a is the slope at the start,
    b what over-optimisation takes."""

    a: float
    b: float

    def at(self, divergence: Array) -> Array:
        d = np.sqrt(divergence)
        found: Array = d * (self.a - self.b * d)
        return found

    @property
    def peak(self) -> float | None:
        """The KL divergence beyond which R falls; None if it never does."""
        return (self.a / (2 * self.b)) ** 2 if self.a > 0 and self.b > 0 else None


def fit(divergence: Array, gain: Array) -> Curve:
    """Least squares over points (S,): KL divergences, and gold less that of one draw."""
    terms = np.stack([np.sqrt(divergence), -divergence], axis=1)
    (a, b), *_ = np.linalg.lstsq(terms, gain, rcond=None)
    return Curve(float(a), float(b))
