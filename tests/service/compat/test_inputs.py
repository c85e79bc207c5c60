"""``input`` in its four forms, and mixtures of them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.wire import Item
from service.compat.inputs import Input, items_of
from service.problems import Failure

MOST = 1000
texts, ids = st.text(max_size=4), st.lists(st.integers(0, 2**70), max_size=3)
of_one_kind = st.lists(texts, min_size=1) | st.lists(ids, min_size=1)


@given(of_one_kind)
def test_a_list_is_an_item_for_each_of_its_elements(given_):
    read = msgspec.json.decode(msgspec.json.encode(given_), type=Input)
    expected = [Item(text=one) if isinstance(one, str) else Item(token_ids=one) for one in given_]
    assert items_of(read, "input", MOST) == expected


@given(st.lists(st.integers(0, 2**70), min_size=1))
def test_a_list_of_numbers_is_one_item(tokens):
    assert items_of(tokens, "input", 0) == [Item(token_ids=tokens)]


@given(st.lists(st.integers(0, 9) | texts | ids, min_size=2))
def test_a_mixture_is_refused(given_):
    if len({type(one) for one in given_}) > 1:
        with pytest.raises(Failure, match="not a mixture"):
            items_of(given_, "input", MOST)


@pytest.mark.parametrize("three", [["a", "b", "c"], ["a", 5, [1]], [[1], [2], "c"]])
def test_more_than_may_be_are_refused_before_they_are_looked_at(three):
    with pytest.raises(Failure, match="3 items, the limit is 2") as caught:
        items_of(three, "input", 2)
    assert caught.value.kind == "too-large"
