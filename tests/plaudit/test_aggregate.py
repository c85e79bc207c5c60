"""Aggregates by hand: two items, three members."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.aggregate import CENTRED, aggregate, mean, needed, variance

# Means 3 and 4; squared deviations 4 + 1 + 9 = 14 over ddof 2, and none.
REWARDS = np.array([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
KINDS = ["mean", "median", "wco", "lcb", "uwo"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mean", [3, 4]),
        ("median", [2, 4]),
        ("wco", [1, 4]),
        ("uwo", [3 - 0.5 * 7, 4]),
        ("lcb", [3 - 0.5 * math.sqrt(7), 4]),
    ],
)
def test_each_aggregate_by_hand(kind, expected):
    assert aggregate(REWARDS, kind, 0.5) == pytest.approx(expected)


def test_variance_is_the_sample_variance():
    assert variance(REWARDS) == pytest.approx([7, 0])


@pytest.mark.parametrize("kind", ["uwo", "lcb"])
def test_a_coefficient_of_zero_is_the_mean(kind):
    assert aggregate(REWARDS, kind, 0.0) == pytest.approx(mean(REWARDS))


@pytest.mark.parametrize("kind", KINDS)
def test_one_member_is_its_own_reward_and_has_no_variance(kind):
    alone = np.array([[1.5], [-2.0]])
    assert aggregate(alone, kind, 0.5) == pytest.approx([1.5, -2.0])
    assert np.isnan(variance(alone)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_added_to_all_members_moves_every_aggregate_by_it(kind):
    assert aggregate(REWARDS + 10, kind, 0.5) == pytest.approx(aggregate(REWARDS, kind, 0.5) + 10)


# The second of three members failed on one item, all but the first on another. What is left of the
# first item: mean 3.5, variance (2.5^2 + 2.5^2) / 1.
LEFT = np.array([[1.0, np.nan, 6.0], [4.0, np.nan, np.nan]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mean", [3.5, 4]),
        ("median", [3.5, 4]),
        ("wco", [1, 4]),
        ("uwo", [3.5 - 0.5 * 12.5, 4]),
        ("lcb", [3.5 - 0.5 * math.sqrt(12.5), 4]),
    ],
)
def test_members_that_did_not_score_are_left_out(kind, expected):
    assert aggregate(LEFT, kind, 0.5) == pytest.approx(expected)


def test_the_variance_is_over_those_that_scored_and_unknown_of_one():
    assert variance(LEFT) == pytest.approx([12.5, np.nan], nan_ok=True)


@given(
    st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from(KINDS),
    st.integers(0, 3),
)
def test_a_member_that_scored_nothing_might_as_well_not_be_there(rows, kind, place):
    rewards = np.array(rows)
    gap = np.insert(rewards, place, np.nan, axis=1)
    assert aggregate(gap, kind, 0.5) == pytest.approx(aggregate(rewards, kind, 0.5), abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mean", [10, 20]),
        ("uwo", [10 - 0.5 * 7, 20]),
        ("lcb", [10 - 0.5 * math.sqrt(7), 20]),
    ],
)
def test_a_centre_stands_in_the_place_of_the_mean(kind, expected):
    centre = np.array([10.0, 20.0])
    assert aggregate(REWARDS, kind, 0.5, centre) == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_as_a_centre_changes_nothing_and_other_kinds_refuse_it(kind):
    if kind in CENTRED:
        centred = aggregate(REWARDS, kind, 0.5, mean(REWARDS))
        assert centred.tolist() == aggregate(REWARDS, kind, 0.5).tolist()
    else:
        with pytest.raises(ValueError, match=f"{kind} would not read the centre"):
            aggregate(REWARDS, kind, 0.5, mean(REWARDS))


def test_an_unknown_penalty_is_no_penalty_of_zero():
    assert [needed(kind, 3, 1) for kind in KINDS] == [1, 1, 1, 2, 2]
    assert [needed(kind, 3, 3) for kind in KINDS] == [3] * 5
    assert [needed(kind, 1, 1) for kind in KINDS] == [1] * 5
