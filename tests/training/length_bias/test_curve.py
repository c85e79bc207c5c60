"""The curve of score over length: what it takes off, and what it cannot see."""

from dataclasses import replace

import numpy as np
import pytest

from plaudit.calibration import Calibration
from training.data.shapes import Pair
from training.evaluate.baselines import length_correlation
from training.length_bias.curve import KNOTS, fit, length_calibration
from training.measure import Measured, accuracy, rewards, stats


def made_up(count: int = 400) -> tuple[list[Pair], Measured]:
    """Pairs of 1 to 600 characters; scores rise with the logarithm of length, the chosen side by
    a half more."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 600, (count, 2))
    pairs = [
        Pair(({"role": "user", "content": f"Question {i}?"},), "a" * a, "b" * b, "s", "c")
        for i, (a, b) in enumerate(lengths.tolist())
    ]
    scores = 2 * np.log(lengths) + generator.normal(0, 0.3, lengths.shape) + np.array([0.5, 0])
    return pairs, Measured(scores[:, 0], scores[:, 1])


def calibrated(measured: Measured, pairs: list[Pair]) -> Calibration:
    return length_calibration(measured, pairs, stats(measured, "validation", pairs), share=0.2)


def test_a_straight_line_is_found_whatever_the_spread_of_lengths():
    characters = np.random.default_rng(1).integers(1, 2000, 500).astype(float)
    curve = fit(3 + characters / 100, characters)
    assert 2 < len(curve) <= KNOTS
    for place, height in curve:
        assert height == pytest.approx(3 + place / 100, abs=0.01)
    assert (curve[0][0], curve[-1][0]) == (characters.min(), characters.max())


def test_rewards_no_longer_follow_length_and_order_pairs_by_the_rest():
    pairs, measured = made_up()
    found = rewards(measured, calibrated(measured, pairs), pairs)
    assert length_correlation(measured, pairs) > 0.9
    assert abs(length_correlation(found, pairs)) < 0.05
    # Of the scores length decides; of the rewards the half that the chosen side has more.
    assert accuracy(measured.chosen - measured.rejected) < 0.65
    assert accuracy(found.chosen - found.rejected) > 0.8
    pooled = np.concatenate([found.chosen, found.rejected])
    assert pooled.mean() == pytest.approx(0, abs=1e-9)
    assert pooled.std(ddof=1) == pytest.approx(1)


def test_labels_that_change_sides_change_nothing():
    pairs, measured = made_up()
    swapped = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in pairs]
    other = calibrated(Measured(measured.rejected, measured.chosen), swapped)
    assert other.curve == calibrated(measured, pairs).curve


def test_responses_of_one_length_have_one_knot():
    ((characters, score),) = fit(np.arange(40.0), np.full(40, 9), share=1.0)
    assert (characters, score) == (9, pytest.approx(19.5, abs=4))
