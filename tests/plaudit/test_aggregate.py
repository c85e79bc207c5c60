"""Aggregates by hand: two items, three members."""

import math

import numpy as np
import pytest

from plaudit.aggregate import aggregate, mean, variance

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
    assert variance(alone) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_added_to_all_members_moves_every_aggregate_by_it(kind):
    assert aggregate(REWARDS + 10, kind, 0.5) == pytest.approx(aggregate(REWARDS, kind, 0.5) + 10)
