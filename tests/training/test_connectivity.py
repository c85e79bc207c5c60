"""The line between two members by hand, and between two that compute one function apart."""

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from training.connectivity import Line, Scan, lines
from training.connectivity_drawing import draw
from training.settings import SettingsError

PLACES = np.array([0.0, 0.25, 1.0])
PROMPTS = [f"prompt {i}" for i in range(100)]


def right(first: int, between: int, second: int) -> np.ndarray:
    """Which of 100 pairs are right at three places: the first so many."""
    return np.arange(100)[:, None] < np.array([first, between, second])


def line(*counts: int) -> Line:
    return between(right(*counts), PROMPTS)


def between(found: np.ndarray, prompts: list[str]) -> Line:
    return lines({("a", "b"): found}, PLACES, prompts)[0]


def test_the_depth_below_the_line_by_hand():
    """At a quarter of the way from .8 to .6 the straight line is at .75."""
    found = line(80, 70, 60)
    assert [one.value for one in found.accuracies] == pytest.approx([0.8, 0.7, 0.6])
    assert [one.value for one in found.below] == pytest.approx([0, 0.05, 0])
    assert (found.lowest, found.depth.value) == (1, pytest.approx(0.05))


def test_the_interval_is_that_of_a_paired_mean():
    """Of 100 pairs 10 are lost (by 1), and 20 are right at the first end alone (by 3/4)."""
    depth = line(80, 70, 60).depth
    each = np.repeat([0.0, 0.75, -0.25, 0.0], [60, 10, 10, 20])
    deviation = each.std() / math.sqrt(100)
    assert depth.value == pytest.approx(each.mean())
    assert depth.high - depth.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_a_place_above_the_line_has_a_negative_depth():
    found = line(60, 80, 60)
    assert found.depth.value == pytest.approx(-0.2)
    assert not found.falls(0.0)


def test_a_fall_must_be_shown_to_be_more_than_is_allowed():
    """30 points below are shown to be more than 2; 3 points by 100 pairs may be chance."""
    assert line(80, 50, 80).falls(0.02)
    assert not line(80, 50, 80).falls(0.5)
    pairs = np.arange(100)
    unsure = between(np.stack([pairs < 50, pairs >= 53, pairs < 50], 1), PROMPTS)
    assert unsure.depth.value == pytest.approx(0.03)
    assert not unsure.falls(0.02)


def test_one_place_of_many_must_fall_further_than_a_place_alone():
    """What 60 lines that only differ by chance have in store is what one of them is judged by."""
    generator = np.random.default_rng(0)
    chance = {
        ("a", f"b{i}"): np.stack([generator.random(100) < 0.7 for _ in PLACES], axis=1)
        for i in range(60)
    }
    among = lines(chance, PLACES, PROMPTS)
    alone = [lines({names: chance[names]}, PLACES, PROMPTS)[0] for names in chance]
    assert any(found.falls(0.0) for found in alone)
    assert not any(found.falls(0.0) for found in among)
    assert [found.below for found in among] == [found.below for found in alone]


def test_pairs_of_one_prompt_are_no_new_evidence():
    several = [
        line(80, 74, 80),
        between(right(80, 74, 80), ["one"] * 50 + ["two"] * 50),
    ]
    assert several[0].falls(0.005)
    assert not several[1].falls(0.005)


def test_the_refusal_names_the_members_and_how_far_they_fall():
    scan = Scan([line(80, 79, 80), line(80, 50, 80)], 0.02, 100, 100)
    with pytest.raises(SettingsError, match=r"a to b: lowest at 0\.25, -0\.300 .*--force") as found:
        scan.refuse_fallen()
    assert str(found.value).count("a to b") == 1
    Scan([line(80, 79, 80)], 0.02, 100, 100).refuse_fallen()


def test_a_few_prompts_refuse_nothing():
    """The interval over one prompt has no width, whatever the prompt is worth."""
    few = between(right(80, 50, 80), ["one"] * 100)
    assert few.falls(0.02)
    Scan([few], 0.02, 100, 19).refuse_fallen()
    with pytest.raises(SettingsError, match="a to b"):
        Scan([few], 0.02, 100, 20).refuse_fallen()


def test_the_summary_says_whether_it_had_to_be_forced():
    fell = Scan([line(80, 50, 80)], 0.02, 100, 100).summary()
    assert (fell["forced"], fell["allowed"], fell["pairs"]) == (True, 0.02, 100)
    assert fell["lines"][0]["accuracies"] == pytest.approx([0.8, 0.5, 0.8])
    assert fell["lines"][0]["lowest"]["at"] == 0.25
    assert not Scan([line(80, 79, 80)], 0.02, 100, 100).summary()["forced"]


def test_the_drawing_has_a_line_for_every_two_members():
    drawn = ET.fromstring(draw([line(80, 70, 60), line(60, 70, 80)], 0.02))
    assert "".join(drawn.itertext()).count("a to b") == 2
