"""Row against row, reliability, score over length, disagreement, mistakes."""

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from training.data.shapes import Pair
from training.evaluate.accuracy import resampled
from training.evaluate.by_length import by_length
from training.evaluate.disagreement import disagreement
from training.evaluate.mistakes import describe, worst
from training.evaluate.paired import compare
from training.evaluate.reliability import Bin, reliability
from training.measure import Measured


def compared(right, prompts, names):
    return compare(right, resampled(right, prompts), names)


def test_mcnemar_s_p_value_by_hand():
    first = np.array([True] * 1 + [False] * 8 + [True] * 20 + [False] * 5)
    second = np.array([False] * 1 + [True] * 8 + [True] * 20 + [False] * 5)
    (found,) = compared(np.stack([first, second], 1), [str(i) for i in range(34)], ["a", "b"])
    assert (found.only_first, found.only_second) == (1, 8)
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    assert found.difference.value == pytest.approx(7 / 34)
    assert found.difference.low > 0


def test_rows_that_agree_on_every_pair_cannot_be_told_apart():
    right = np.array([True, False, True])
    found = compared(np.stack([right] * 3, 1), ["x", "y", "z"], ["a", "b", "c"])
    assert [(one.first, one.second) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert {one.p_value for one in found} == {1.0}
    assert compared(right[:, None], ["x", "y", "z"], ["a"]) == []


def test_probabilities_that_come_true_have_no_calibration_error():
    found = reliability(np.array([math.log(3)] * 3 + [-math.log(3)]))
    assert found.bins == [Bin(4, pytest.approx(0.75), 0.75)]
    assert found.ece == pytest.approx(0)


def test_calibration_error_by_hand():
    margins = [math.log(3)] * 3 + [-math.log(3)] + [math.log(19), -math.log(19)]
    assert reliability(np.array(margins)).ece == pytest.approx(2 / 6 * (0.95 - 0.5))


def test_a_tie_is_half_right_at_even_odds():
    assert reliability(np.zeros(3)).bins == [Bin(3, 0.5, 0.5)]


def test_certainty_stands_in_the_last_bin():
    assert reliability(np.array([1e9, -1e9])).bins == [Bin(2, 1.0, 0.5)]


def test_bins_are_those_of_scikit_learn():
    margins = np.random.default_rng(0).normal(size=1000) * 2
    confidence = 1 / (1 + np.exp(-np.abs(margins)))
    accuracy, mean = calibration_curve(margins > 0, confidence, n_bins=20)
    found = reliability(margins).bins
    assert [one.accuracy for one in found] == pytest.approx(accuracy.tolist())
    assert [one.confidence for one in found] == pytest.approx(mean.tolist())


def test_scores_are_grouped_by_length():
    lengths = Measured(np.arange(100.0), np.arange(100.0, 200))
    found = by_length(Measured(lengths.chosen * 2, lengths.rejected * 2), lengths)
    assert len(found.length) == 10
    assert found.length[0] == pytest.approx(9.5, abs=0.6)
    assert found.median == pytest.approx([2 * length for length in found.length])
    assert found.low[0] < found.median[0] < found.high[0]


def test_equal_lengths_are_one_group():
    found = by_length(Measured(np.array([1.0, 2]), np.array([3.0, 4])), Measured(*np.ones((2, 2))))
    assert (found.length, found.median) == ([1], [2.5])


def test_errors_where_members_disagree_by_hand():
    margins = np.array([[1.0, 2, 3, 4, 9], [1.0, 2, 3, 2, 1]])
    found = disagreement(margins, np.array([True, True, True, True, False]))
    assert [one.accuracy for one in found.levels] == [1, 1, 1, 1, 0]
    assert [one.disagreement for one in found.levels] == pytest.approx(
        [0, 0, 0, math.sqrt(2), 8 / math.sqrt(2)]
    )
    assert found.auc == 1
    assert disagreement(margins, np.ones(5, bool)).auc is None


def test_disagreement_that_is_noise_finds_no_errors():
    generator = np.random.default_rng(0)
    margins, right = generator.normal(size=(4, 4000)), generator.random(4000) < 0.7
    found = disagreement(margins, right)
    assert found.auc == pytest.approx(0.5, abs=0.02)
    assert {one.pairs for one in found.levels} == {800}


def test_the_worst_mistakes_come_first_and_what_is_right_never():
    pairs = [
        Pair(({"role": "user", "content": "Q"},), "a" * i, "b", "s", "c", line=i) for i in range(4)
    ]
    measured = Measured(np.array([0.0, 1.0, 2.0, 2.0]), np.array([1.0, 0.0, 5.0, 2.0]))
    assert worst(measured, 3) == [2, 0]
    assert worst(measured, 1) == [2]
    assert [(one.line, one.margin, one.chosen_length) for one in describe(pairs, measured)] == [
        (2, -3.0, 2), (0, -1.0, 0)
    ]  # fmt: skip
