"""Preference strength by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.noise.strength import Strength, auc_of_wrong_labels, by_strength


def test_mean_and_population_deviation_over_members():
    # Margins 1 and 3 of the first pair: mean 2, deviation 1 (ddof 0, not the square root of 2).
    found = Strength.of(np.array([[1.0, -2.0], [3.0, -2.0]]))
    assert found.mean.tolist() == [2.0, -2.0]
    assert found.std.tolist() == [1.0, 0.0]


def test_groups_run_from_the_weakest_to_the_strongest():
    mean = np.array([3.0, -1.0, 0.0, 2.0])
    assert by_strength(mean, np.array([30.0, 10.0, 0.0, 20.0]), 2).tolist() == [5.0, 25.0]


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30).filter(
        lambda pairs: len({wrong for _, wrong in pairs}) == 2
    )
)
def test_the_auc_is_the_share_of_right_over_wrong(pairs):
    mean, wrong = np.array([m for m, _ in pairs], float), np.array([w for _, w in pairs])
    won = [
        1.0 if right > other else 0.5 if right == other else 0.0
        for right in mean[~wrong]
        for other in mean[wrong]
    ]
    assert auc_of_wrong_labels(mean, wrong) == pytest.approx(np.mean(won))
