import numpy as np
import pytest

from training.evaluate.styles import shares, wins


def test_a_score_that_is_style_is_right_where_it_is_easy_alone():
    style = np.array([[0.0, 1.0, 2.0]])
    assert shares(style, style)[0].tolist() == pytest.approx([1, 0, 0, 1 / 3])


def test_difficulties_by_hand():
    chosen = np.array([[1.0, 4.0, 2.0], [9.0, 9.0, 9.0]])
    rejected = np.array([[0.0, 3.0, 2.0], [1.0, 2.0, 3.0]])
    assert wins(chosen, rejected)[0].tolist() == [
        [True, False, False],
        [True, True, True],
        [True, False, False],  # the last is a tie
    ]
    # easy: detailed and Markdown over concise, not Markdown over detailed
    assert shares(chosen, rejected)[0].tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3, 5 / 9])


def test_no_score_that_is_shifted_or_scaled_changes_a_figure():
    generator = np.random.default_rng(0)
    chosen, rejected = generator.normal(size=(2, 50, 3))
    once = shares(chosen, rejected)
    assert (shares(3 * chosen - 7, 3 * rejected - 7) == once).all()
    assert once[:, 3] == pytest.approx(once[:, :3].mean(axis=1))
