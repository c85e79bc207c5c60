"""Coefficients by hand: the judge is a table of accuracies of subsets, not a model."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.coefficients import Best, Given, Greedy, Uniform, check, choose
from training.settings import SettingsError


def judged_by(table: dict[frozenset[int], float]):
    """Accuracy of the average of a subset of members."""

    def judge(coefficients: Sequence[float]) -> float:
        return table[frozenset(m for m, value in enumerate(coefficients) if value)]

    return judge


def never(coefficients: Sequence[float]) -> float:
    raise AssertionError("nothing is selected")


def test_uniform_and_given_ask_nobody():
    assert choose(Uniform(), [0.1, 0.9], never) == [0.5, 0.5]
    assert choose(Given((0.2, 0.8)), [0.1, 0.9], never) == [0.2, 0.8]


def test_given_coefficients_are_divided_by_their_sum():
    found = choose(Given((0.333333, 0.333333, 0.333334 + 5e-7)), [0, 0, 0], never)
    assert sum(found) == pytest.approx(1, abs=1e-15)


def test_the_best_members_alike_and_of_equal_ones_the_first():
    assert choose(Best(2), [0.6, 0.8, 0.7, 0.7], never) == [0, 0.5, 0.5, 0]


def test_greedy_keeps_whom_the_average_gets_no_worse_by():
    """From the best: 2 is kept on a tie, 0 makes it worse, 3 better."""
    table = {
        frozenset({1, 2}): 0.8,
        frozenset({0, 1, 2}): 0.79,
        frozenset({1, 2, 3}): 0.85,
    }
    found = choose(Greedy(), [0.7, 0.8, 0.75, 0.6], judged_by(table))
    assert found == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])


def test_greedy_may_end_with_the_best_alone():
    table = {frozenset({0, 1}): 0.8, frozenset({0, 2}): 0.85}
    assert choose(Greedy(), [0.9, 0.6, 0.7], judged_by(table)) == [1, 0, 0]


@given(st.data(), st.integers(2, 5))
def test_greedy_is_never_below_the_best_member(data, members):
    """By whatever the judge says, on the pairs that selected."""
    said: dict[tuple[float, ...], float] = {}

    def judge(coefficients: Sequence[float]) -> float:
        return said.setdefault(tuple(coefficients), data.draw(st.floats(0, 1)))

    alone = [judge([float(m == n) for n in range(members)]) for m in range(members)]
    found = choose(Greedy(), alone, judge)
    assert sum(found) == pytest.approx(1)
    assert len({value for value in found if value}) == 1
    assert judge(found) >= max(alone)


@pytest.mark.parametrize(
    ("method", "named"),
    [
        (Given((0.5, 0.5)), "2 values for 3 members"),
        (Given((0.7, 0.5, -0.2)), "-0.2: each must be at least 0"),
        (Given((0.5, 0.3, 0.3)), "sum to 1.1; they must sum to 1"),
        (Given((float("nan"), 0.5, 0.5)), "at least 0"),
        (Best(4), "--best 4: there are 3 members"),
        (Best(0), "--best 0"),
    ],
)
def test_what_fits_no_three_members_is_refused(method, named):
    with pytest.raises(SettingsError, match=named):
        check(method, 3)


def test_what_fits_is_not_refused():
    for method in (Uniform(), Greedy(), Best(3), Given((1.0, 0.0, 0.0))):
        check(method, 3)
