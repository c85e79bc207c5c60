"""What a response's length alone explains of its score, by locally weighted regression.

After arXiv:2409.17407: a curve of score over characters is fitted to scored responses and taken off
their scores. It sees no labels, so it cannot learn which side of a pair is right.

Letters: N responses, P pairs.
"""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace
from statsmodels.nonparametric.smoothers_lowess import lowess

from plaudit.calibration import Calibration
from plaudit.checkpoint import Stats
from training.data.shapes import Pair
from training.evaluate.baselines import length_only
from training.measure import Array, Measured, rewards
from training.settings import SettingsError

# Of the responses, in each local fit.
SHARE = 0.5
KNOTS = 64
# Fewer in a local fit, and the curve follows single responses.
NEIGHBOURS = 10
# Local fits lie this share of the longest response apart, straight lines between them.
SPACING = 0.005


def fit(scores: Array, characters: Array, share: float = SHARE) -> tuple[tuple[float, float], ...]:
    """Knots (characters, score) of the curve through scores (N,) at lengths (N,).

    At most 64, at quantiles of length, so that they are dense where responses are.
    """
    if share * len(scores) < NEIGHBOURS:
        raise SettingsError(
            f"a length curve through {len(scores)} responses, a share of {share:g} in each local "
            f"fit: give it more responses, or a larger share, so that each sees {NEIGHBOURS}"
        )
    order = np.lexsort((scores, characters))
    heights = scores[order].astype(np.float64)
    lengths = characters[order].astype(np.float64)
    # Apart by less than a character: where all neighbours have one length, no line can be fitted.
    # In this order the same responses get the same places, whichever side of a pair they stand on.
    apart = lengths + np.random.default_rng(0).uniform(-0.5, 0.5, len(lengths))
    smooth = lowess(heights, apart, frac=share, delta=SPACING * float(np.ptp(apart)))
    places = np.unique(np.quantile(lengths, np.linspace(0, 1, KNOTS), method="nearest"))
    knots = np.interp(places, smooth[:, 0], smooth[:, 1])
    return tuple(zip(places.tolist(), knots.tolist(), strict=True))


def length_calibration(
    measured: Measured, pairs: Sequence[Pair], found: Stats, share: float = SHARE
) -> Calibration:
    """The curve through scores of P pairs, and the scale of what it leaves of them. ``found`` says
    which pairs they are."""
    lengths = length_only(pairs)
    curve = fit(pooled(measured), pooled(lengths), share)
    known = Calibration(
        kind="length",
        curve=curve,
        reference=found.reference,
        reference_digest=found.reference_digest,
    )
    left = pooled(rewards(measured, known, pairs))
    return replace(known, mean=float(left.mean()), std=float(left.std(ddof=1)))


def pooled(measured: Measured) -> Array:
    return np.concatenate([measured.chosen, measured.rejected]).astype(np.float64)
