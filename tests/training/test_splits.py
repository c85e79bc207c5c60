"""Sides and samples depend on a pair's own text alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.shapes import Pair
from training.data.splits import (
    Split,
    halves,
    sample,
    sample_each_prompt,
    sample_prompts,
    select,
    unit_digest,
)

SPLIT = Split(validation=0.1, test=0.2)


def pair(first: str, number: int = 0, source: str = "s") -> Pair:
    return Pair(({"role": "user", "content": first},), f"a{number}", f"b{number}", source, "c")


def sampled(pairs: list[Pair], count: int) -> list[Pair]:
    return sample(pairs, count, key=lambda p: p)


@given(st.text())
def test_a_first_turn_stands_on_one_side_in_every_source(first):
    longer = Pair(
        (
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": f" {first}\n"},
            {"role": "assistant", "content": "x"},
            {"role": "user", "content": "y"},
        ),
        "a",
        "b",
        "other",
        "c",
    )
    assert SPLIT.side(pair(first)) == SPLIT.side(longer)


def test_shares_are_near_what_was_asked():
    sides = [SPLIT.side(pair(f"question {i}")) for i in range(5000)]
    # Four standard deviations of a share of 5000.
    assert sides.count("test") / 5000 == pytest.approx(0.2, abs=0.023)
    assert sides.count("validation") / 5000 == pytest.approx(0.1, abs=0.017)


def test_sides_are_disjoint_and_complete():
    pairs = [pair(f"question {i}") for i in range(200)]
    found = [
        p for side in ("train", "validation", "test") for p in select(pairs, SPLIT, side, None)
    ]
    assert sorted(p.first_turn for p in found) == sorted(p.first_turn for p in pairs)


def test_a_side_keeps_the_order_of_the_file():
    pairs = [pair(f"question {i}") for i in range(200)]
    kept = select(pairs, SPLIT, "train", 20)
    assert len(kept) == 20
    assert [pairs.index(p) for p in kept] == sorted(pairs.index(p) for p in kept)


def test_a_sample_does_not_depend_on_the_other_rows():
    few = [pair(f"question {i}") for i in range(50)]
    more = [pair(f"another {i}") for i in range(50)]
    among_all = sampled([*few, *more], 20)
    # Whoever is in the sample of all is in the sample of a part that has them.
    assert {p.first_turn for p in among_all if p in few} <= {p.first_turn for p in sampled(few, 20)}


def test_a_smaller_sample_is_part_of_a_larger_one():
    pairs = [pair("same", i) for i in range(50)]
    assert set(map(repr, sampled(pairs, 5))) < set(map(repr, sampled(pairs, 10)))


def test_the_order_of_rows_does_not_choose_the_sample():
    pairs = [pair(f"question {i}") for i in range(50)]
    assert sampled(pairs[::-1], 10) == sampled(pairs, 10)[::-1]


def test_prompts_are_sampled_whole():
    pairs = [pair(f"question {i % 20}", i) for i in range(100)]
    kept = sample_prompts(pairs, 32, key=lambda p: p)
    assert len(kept) == 32
    counts = [sum(p.first_turn == f"question {i}" for p in kept) for i in range(20)]
    # Five pairs a prompt: six prompts whole, two pairs of a seventh.
    assert sorted(counts) == [0] * 13 + [2] + [5] * 6
    assert [pairs.index(p) for p in kept] == sorted(pairs.index(p) for p in kept)


def test_the_order_of_rows_does_not_choose_the_prompts():
    pairs = [pair(f"question {i % 20}", i) for i in range(100)]
    kept = sample_prompts(pairs, 32, key=lambda p: p)
    assert sample_prompts(pairs[::-1], 32, key=lambda p: p) == kept[::-1]


def test_a_sample_is_not_a_slice_of_one_side():
    # The salt keeps the sample's ranking apart from the one that cuts the sides.
    assert unit_digest("text") != unit_digest("text", salt="sample")


@given(st.text())
def test_positions_lie_in_the_unit_interval(text):
    assert 0 <= unit_digest(text) < 1


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(1, 5))
def test_of_each_prompt_as_many_pairs_as_asked_and_no_prompt_is_lost(firsts, count):
    pairs = [pair(first, number) for number, first in enumerate(firsts)]
    kept = sample_each_prompt(pairs, count, key=lambda p: p)
    assert [pairs.index(p) for p in kept] == sorted(pairs.index(p) for p in kept)
    for first in set(firsts):
        of_it = [p for p in kept if p.first_turn == first]
        assert len(of_it) == min(count, firsts.count(first))
        # Other prompts do not change which of its pairs are kept.
        alone = [p for p in pairs if p.first_turn == first]
        assert of_it == sample_each_prompt(alone, count, key=lambda p: p)


@given(st.lists(st.integers(0, 30), max_size=60))
def test_halves_are_exact_and_whole_prompts_in_their_order(numbers):
    # A prompt that differs in spaces around it is the same.
    items = [pair(f"question {one}{' ' * (i % 2)}", i) for i, one in enumerate(numbers)]
    one, other = halves(items, lambda p: p.first_turn, "salt")
    assert sorted([*one, *other], key=items.index) == items
    assert all(side == sorted(side, key=items.index) for side in (one, other))
    sides = [{p.first_turn.strip() for p in side} for side in (one, other)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) - len(sides[0]) == len(set(numbers)) % 2
    # The order of rows does not choose.
    assert halves(items[::-1], lambda p: p.first_turn, "salt") == (one[::-1], other[::-1])


def test_another_salt_makes_other_halves():
    items = [pair(f"question {number}") for number in range(40)]
    one, other = (halves(items, lambda p: p.first_turn, salt)[0] for salt in ("a", "b"))
    assert one != other
