"""The file of several objectives, their sum, and the warning about their scales."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit import joint_file
from plaudit.checkpoint import CheckpointError
from plaudit.ensemble import EnsembleFile
from plaudit.objectives import Objective, ObjectivesFile, scale_warning, weighted_sum

WEIGHTS = st.floats(0, 10)
REWARDS = st.floats(-10, 10)


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "file.yaml"
        path.write_text(text)
        return path

    return write


def test_a_file_is_what_it_declares(file):
    found = joint_file.read(file("objectives: {a: {member: x/y, weight: 1}}"))
    assert found == ObjectivesFile({"a": Objective("x/y", 1.0)})
    assert joint_file.read(file("members: [m0, m1]")) == EnsembleFile(["m0", "m1"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("objectives: {}", "length >= 1"),
        ("objectives: {a: {member: x}}", "missing required field `weight`"),
        ("objectives: {a: {weight: 1}}", "missing required field `member`"),
        ("objectives: {a: {member: x, weight: 1, scale: 2}}", "unknown field `scale`"),
        ("objectives: {a: {member: x, weight: 1}}\naggregate: mean", "unknown field `aggregate`"),
        ("objectives: {a: {member: x, weight: -1}}", "{'a': -1.0}"),
        ("objectives: {a: {member: x, weight: .inf}}", "{'a': inf}"),
        ("objectives: {a: {member: x, weight: .nan}}", "{'a': nan}"),
        ("objectives: {a: {member: x, weight: 0}}", "every weight is 0"),
        ("objectives: {a: {member: x, weight: true}}", "got `bool`"),
        ("objectives: [x, y]", "Expected `object`"),
        ("objectives: {}\nmembers: []", "declares both"),
        ("aggregate: mean", "declares neither"),
        ("", "declares neither"),
        ("{", "file.yaml:1:2: expected the node content"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(file, text, said):
    path = file(text)
    with pytest.raises(CheckpointError) as refused:
        joint_file.read(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


@given(st.lists(st.tuples(REWARDS, REWARDS), min_size=1), st.tuples(WEIGHTS, WEIGHTS))
def test_a_sum_does_not_depend_on_its_neighbours(rows, weights):
    rewards = np.array(rows)
    found = weighted_sum(rewards, weights)
    assert found == pytest.approx([weights[0] * a + weights[1] * b for a, b in rows])
    for place in range(len(rows)):
        assert weighted_sum(rewards[[place]], weights)[0] == found[place]


def test_no_items_have_no_sums():
    assert weighted_sum(np.empty((0, 2)), [1, 2]).shape == (0,)


WEIGHED = {"helpful": 1.0, "harmless": 1.0}


def test_scales_more_than_one_and_a_half_apart_are_flagged():
    said = scale_warning({"helpful": 3.0, "harmless": 1.0}, WEIGHED)
    assert said is not None
    assert "(helpful 50%, harmless 50%)" in said
    assert "would weigh helpful 75%, harmless 25%" in said


@pytest.mark.parametrize("scales", [{"helpful": 1.5, "harmless": 1.0}, {}, {"helpful": 1.0}])
def test_scales_that_are_near_or_unknown_are_not(scales):
    assert scale_warning(scales, WEIGHED) is None
