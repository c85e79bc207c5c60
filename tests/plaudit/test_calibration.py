"""Scores to rewards by hand."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.calibration import Calibration

# Expected scores 1 at 10 characters, 3 at 20, 2 at 40.
CURVE = ((10.0, 1.0), (20.0, 3.0), (40.0, 2.0))


def test_without_a_curve_the_length_says_nothing():
    assert Calibration("standardise", mean=0.5, std=2.0).reward(4.5) == 2.0
    assert Calibration("none", mean=0.5, std=2.0).reward(4.5, 100) == 4.5


def test_what_the_length_explains_is_taken_off():
    found = Calibration("length", mean=0.5, std=2.0, curve=CURVE)
    # Half way from 10 to 20 characters, 2 are expected: (4.5 - 2 - 0.5) / 2.
    assert found.reward(4.5, 15) == pytest.approx(1.0)
    assert found.reward(4.5, 20) == pytest.approx(0.5)


def test_beyond_its_knots_the_curve_is_flat():
    found = Calibration("length", curve=CURVE)
    assert found.expected(0) == 1.0
    assert found.expected(10) == 1.0
    assert found.expected(40) == found.expected(10_000) == 2.0


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20, unique=True), st.integers(0, 6000))
def test_between_knots_the_curve_is_straight_as_numpy_draws_it(places, characters):
    # Not the height of the next knot, as in a published evaluation of such a curve.
    knots = [(float(place), (place * 37 % 101) / 7) for place in sorted(places)]
    found = Calibration("length", curve=tuple(knots)).expected(characters)
    assert found == pytest.approx(float(np.interp(characters, *zip(*knots, strict=True))))


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        ({"kind": "length"}, "kind length has a curve"),
        ({"kind": "standardise", "curve": [[1, 2]]}, "no other kind has one"),
        ({"kind": "length", "curve": [[2, 0], [1, 0]]}, "do not rise"),
        ({"kind": "length", "curve": [[2, 0], [2, 1]]}, "do not rise"),
        ({"kind": "length", "curve": [[2, 0]], "std": 0}, "std"),
        ({"kind": "curve"}, "kind"),
    ],
)
def test_a_calibration_that_makes_no_reward_is_refused(calibration, said):
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(calibration, Calibration)
