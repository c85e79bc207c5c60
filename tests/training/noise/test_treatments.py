"""What treatments write, to which pairs, and which cannot stand together."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.noise.treatments import Treatment, TreatmentError, quantiles, treat

ROWS = [
    {"chosen": f"good {i}", "rejected": f"bad {i}", "mean_diff": mean}
    for i, mean in enumerate([0.5, -2.0, 3.0, -0.5])
]


def done(*treatments: Treatment) -> list[dict]:
    return treat(ROWS, treatments)


def test_the_weakest_half_is_flipped_and_its_strength_changes_sign():
    found = done(Treatment("flip", 0, 0.5))
    assert [row["chosen"] for row in found] == ["good 0", "bad 1", "good 2", "bad 3"]
    assert [row["mean_diff"] for row in found] == [0.5, 2.0, 3.0, 0.5]
    assert [row["treatments"] for row in found] == [[], ["flip"], [], ["flip"]]


def test_the_weakest_quarter_is_dropped():
    assert [row["chosen"] for row in done(Treatment("drop", 0, 0.25))] == [
        "good 0",
        "good 2",
        "good 3",
    ]


def test_a_soft_label_is_what_the_members_find():
    (weak,) = (row for row in done(Treatment("soft", 0, 0.25)) if "soft_label" in row)
    assert weak["soft_label"] == pytest.approx(1 / (1 + math.exp(2.0)))


def test_smoothing_leaves_a_share_to_the_other_side():
    assert [row.get("soft_label") for row in done(Treatment("smooth", 0.5, 1, 0.1))] == [
        0.9,
        None,
        0.9,
        None,
    ]


def test_the_margin_is_that_of_the_flipped_label():
    found = done(Treatment("flip", 0, 0.25), Treatment("margin", 0, 1, 2.0))
    assert [row["target_margin"] for row in found] == [1.0, 4.0, 6.0, -1.0]


def test_what_was_given_of_a_label_goes_with_it():
    given = [row | {"target_margin": 1.0, "soft_label": 0.9, "id": 7} for row in ROWS]
    found = treat(given, [Treatment("flip", 0, 0.25)])
    assert {"target_margin", "soft_label"} & found[1].keys() == set()
    assert found[1]["id"] == 7
    assert (found[0]["target_margin"], found[0]["soft_label"]) == (1.0, 0.9)


def test_which_response_was_cut_changes_sides_with_it():
    cut = [row | {"chosen_finished": False, "rejected_finished": True} for row in ROWS]
    found = treat(cut, [Treatment("flip", 0, 0.25)])
    assert [row["chosen_finished"] for row in found] == [False, True, False, False]
    assert [row["rejected_finished"] for row in found] == [True, False, True, True]


@pytest.mark.parametrize(
    ("one", "other"), [("flip", "drop"), ("soft", "smooth"), ("margin", "margin")]
)
def test_treatments_that_undo_one_another_are_refused_where_they_meet(one, other):
    with pytest.raises(TreatmentError, match=r"flip|soft|margin"):
        done(Treatment(one, 0, 0.5, 0.1), Treatment(other, 0.4, 1, 0.1))
    done(Treatment(one, 0, 0.5, 0.1), Treatment(other, 0.5, 1, 0.1))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.integers(0, 100))
def test_a_band_holds_its_share_of_the_weakest(means, percent):
    high = percent / 100
    inside = [mean for mean, at in zip(means, quantiles(means), strict=True) if at < high]
    outside = [mean for mean, at in zip(means, quantiles(means), strict=True) if at >= high]
    assert len(inside) == math.ceil(percent * len(means) / 100)
    assert not inside or not outside or max(inside) <= min(outside)
