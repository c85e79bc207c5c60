"""A key stands once, everything else is PyYAML's."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from plaudit import strict_yaml

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@given(VALUES)
def test_what_was_dumped_is_read_back(value):
    assert strict_yaml.load(yaml.safe_dump(value)) == value


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("lr: 1\nseed: 2\nlr: 3\n", "'lr' stands here a second time\n.*line 3, column 1"),
        ("members:\n  - {seed: 1, seed: 2}\n", "'seed' .*\n.*line 2, column 15"),
    ],
)
def test_a_second_key_of_one_name_is_refused_with_its_place(text, where):
    with pytest.raises(yaml.YAMLError, match=where):
        strict_yaml.load(text)


def test_keys_of_different_types_or_levels_are_different():
    assert strict_yaml.load("'1': a\n1: {'1': b}\n") == {"1": "a", 1: {"1": "b"}}


def test_a_merged_key_may_be_given_anew():
    text = "base: &base {lr: 1, seed: 2}\nown:\n  <<: *base\n  lr: 3\n"
    assert strict_yaml.load(text)["own"] == {"lr": 3, "seed": 2}
