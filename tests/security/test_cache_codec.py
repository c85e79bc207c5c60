"""S17 and S18: keys that no two requests share, and values that no one can plant."""

import asyncio
import math
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.wire import Item, Message
from service.cache import MAGIC, VALUE, RedisCache, key_of
from service.items import Cut
from service.metrics import Metrics
from service.repeats import digests, under

names = st.text(max_size=6)
ids = st.lists(st.integers(0, 2**32 - 1), max_size=5)
KEYS = st.tuples(names, names, ids)


@given(KEYS, KEYS)
def test_keys_are_equal_for_equal_requests_only(one: Any, other: Any) -> None:
    assert (key_of(*one) == key_of(*other)) == (one == other)


@given(names, names, ids, st.data())
def test_a_boundary_that_moves_is_another_key(
    revision: str, numerics: str, sequence: list[int], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(numerics)))
    moved = (revision + numerics[:cut], numerics[cut:])
    same = moved == (revision, numerics)
    assert (key_of(*moved, sequence) == key_of(revision, numerics, sequence)) == same


# Those that look alike, and those of which one begins with the other.
texts = st.sampled_from(["", "a", "b", "ab", "a\x00b", "é", "e\u0301", "\u212b", "Å", "A", " a"])
turns = st.builds(Message, role=st.sampled_from(["user", "assistant", "system"]), content=texts)
items = st.one_of(
    st.builds(Item, prompt=texts, response=texts),
    st.builds(Item, prompt=st.lists(turns, max_size=2), response=texts),
    st.builds(Item, messages=st.lists(turns, max_size=3)),
    st.builds(Item, text=texts),
    st.builds(Item, text=texts, response=texts),
    st.builds(Item, token_ids=st.lists(st.integers(-1, 300), max_size=3)),
)


@given(items, items)
def test_two_items_are_one_repeat_only_if_they_are_one_item(one: Item, other: Item) -> None:
    first, second = digests([one, other])
    assert (first == second) == (one == other)


@given(st.binary(min_size=1, max_size=3), st.sampled_from(["error", "left", "right"]),
       st.none() | st.integers(1, 9))  # fmt: skip
def test_the_same_item_under_another_model_or_cut_is_another_repeat(
    sent: bytes, truncation: Any, most: int | None
) -> None:
    cut = Cut(truncation, most)
    others = [
        ("m1", cut),
        ("m0", replace(cut, max_tokens=(most or 9) + 1)),
        ("m0", replace(cut, truncation="left" if truncation != "left" else "right")),
    ]
    asked = under("m0", cut, [sent])
    assert all(under(model, other, [sent]) != asked for model, other in others)


@pytest.fixture(scope="module")
def codec() -> RedisCache:
    return codec_with("secret")


def codec_with(secret: str) -> RedisCache:
    url = "redis://127.0.0.1:1/0"  # never connected to
    return RedisCache(url, Metrics(), timeout_seconds=1, ttl_seconds=1, secret=secret)


scores = st.floats(width=32, allow_nan=False, allow_infinity=False)
keys = st.binary(min_size=32, max_size=32)


@given(key=keys, score=scores)
def test_a_score_is_read_as_it_was_written(codec: RedisCache, key: bytes, score: float) -> None:
    assert codec._decode(key, codec._encode(key, score)) == score


@given(key=keys, value=st.binary(max_size=64) | st.text(max_size=30))
def test_foreign_values_are_misses(codec: RedisCache, key: bytes, value: bytes | str) -> None:
    assert codec._decode(key, value) is None


@given(key=keys, score=scores, bit=st.integers(0, 8 * VALUE.size - 1))
def test_a_flipped_bit_is_a_miss(codec: RedisCache, key: bytes, score: float, bit: int) -> None:
    value = bytearray(codec._encode(key, score))
    value[bit // 8] ^= 1 << bit % 8
    assert codec._decode(key, bytes(value)) is None


@given(key=keys, other=keys, score=scores, cut=st.integers(0, VALUE.size - 1))
def test_a_value_of_another_key_or_secret_or_length_is_a_miss(
    codec: RedisCache, key: bytes, other: bytes, score: float, cut: int
) -> None:
    value = codec._encode(key, score)
    assert codec._decode(other, value) == (score if other == key else None)
    assert codec._decode(key, value[:cut]) is None
    assert codec._decode(key, value + b"\x00") is None


def test_another_secret_plants_nothing(codec: RedisCache) -> None:
    key = bytes(32)
    assert codec._decode(key, codec_with("other")._encode(key, 1.0)) is None
    forged = VALUE.pack(MAGIC, 1.0, bytes(16))
    assert codec._decode(key, forged) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_a_miss_whoever_wrote_it(
    codec: RedisCache, value: float
) -> None:
    key = bytes(32)
    whole = VALUE.pack(MAGIC, value, codec._checksum(key, struct.pack("<f", value)))
    assert codec._decode(key, whole) is None


def test_closing_what_was_never_opened_is_harmless() -> None:
    asyncio.run(codec_with("x").close())
