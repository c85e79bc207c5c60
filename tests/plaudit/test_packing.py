"""Plans of batches, over made-up sequences with many common prefixes."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.packing import (
    MIN_SHARED,
    Packed,
    pack,
    pack_behind,
    packed_batches,
    padded_batches,
    shared,
)

# Three tokens and a few stems: prefixes of every length are common.
tokens = st.lists(st.integers(0, 2), max_size=12)
stems = st.lists(tokens, min_size=1, max_size=3)
sequences = stems.flatmap(
    lambda stems: st.lists(
        st.tuples(st.sampled_from(stems), st.sampled_from(stems), tokens).map(
            lambda parts: [*parts[0], *parts[1], *parts[2]] or [0]
        ),
        min_size=1,
        max_size=12,
    )
)
min_shared = st.integers(1, 9)


def run(packed: Packed, index: int) -> list[int]:
    node = packed.nodes[index]
    return packed.ids[node.start : node.stop]


def rebuilt(packed: Packed, end: int) -> list[int]:
    """The sequence that ends at ``end``, by walking from its node to the root."""
    index = next(i for i, node in enumerate(packed.nodes) if node.start <= end < node.stop)
    path = [*packed.ancestors(index), index]
    whole = [token for i in path for token in run(packed, i)]
    return whole[: len(whole) - (packed.nodes[index].stop - 1 - end)]


@given(sequences, min_shared)
def test_every_sequence_is_rebuilt_from_its_end(found, least):
    packed = pack(found, least)
    assert [rebuilt(packed, end) for end in packed.ends] == found


@given(sequences, min_shared)
def test_the_walk_of_a_sequence_is_its_tokens(found, least):
    packed = pack(found, least)
    for sequence, walk in zip(found, packed.walks(), strict=True):
        assert [t for node in walk for t in packed.ids[node.start : node.stop]] == sequence


@given(sequences, min_shared)
def test_a_node_stands_behind_its_ancestors(found, least):
    packed = pack(found, least)
    for index, node in enumerate(packed.nodes):
        assert all(packed.nodes[a].stop <= node.start for a in packed.ancestors(index))


@given(sequences, min_shared)
def test_each_end_is_the_last_token_of_a_node(found, least):
    packed = pack(found, least)
    assert set(packed.ends) <= {node.stop - 1 for node in packed.nodes}


@given(sequences, min_shared)
def test_siblings_share_less_than_min_shared(found, least):
    packed = pack(found, least)
    for a, b in combinations(range(len(packed.nodes)), 2):
        if packed.nodes[a].parent == packed.nodes[b].parent:
            assert shared(run(packed, a), run(packed, b)) < least


@given(sequences, min_shared)
def test_nodes_lie_end_to_end_and_parents_come_first(found, least):
    packed = pack(found, least)
    starts = [node.start for node in packed.nodes]
    stops = [node.stop for node in packed.nodes]
    assert starts == [0, *stops[:-1]]
    assert stops[-1] == len(packed.ids)
    assert all(a < b for a, b in zip(starts, stops, strict=True))
    assert all(node.parent < i for i, node in enumerate(packed.nodes))


@given(sequences, min_shared)
def test_positions_count_on_from_the_parent(found, least):
    packed = pack(found, least)
    for index, node in enumerate(packed.nodes):
        before = sum(len(run(packed, a)) for a in packed.ancestors(index))
        expected = list(range(before, before + node.stop - node.start))
        assert packed.positions()[node.start : node.stop] == expected


@given(sequences, min_shared)
def test_the_same_sequences_give_the_same_plan(found, least):
    assert pack(found, least) == pack([list(s) for s in found], least)


# Sequences with a number of first tokens that are known: never all.
partly_known = sequences.flatmap(
    lambda found: st.tuples(
        st.just(found), st.tuples(*(st.integers(0, len(sequence) - 1) for sequence in found))
    )
)


@given(partly_known, min_shared)
def test_known_tokens_stand_in_front_and_the_others_behind(given, least):
    found, known = given
    packed = pack_behind(found, known, least)
    for sequence, count, walk in zip(found, known, packed.walks(), strict=True):
        places = [place for node in walk for place in range(node.start, node.stop)]
        assert [packed.ids[place] for place in places] == sequence
        assert [place < packed.held for place in places] == [i < count for i in range(len(places))]


@given(partly_known, min_shared)
def test_every_known_token_is_there_once_and_belongs_to_someone(given, least):
    found, known = given
    packed = pack_behind(found, known, least)
    prefixes = {tuple(s[:count]) for s, count in zip(found, known, strict=True) if count}
    assert packed.held == len(pack([*prefixes], least).ids)
    used = {place for walk in packed.walks() for n in walk for place in range(n.start, n.stop)}
    assert used == set(range(len(packed.ids)))
    for index, node in enumerate(packed.nodes):
        before = sum(len(run(packed, a)) for a in packed.ancestors(index))
        assert node.first_position == before


@given(sequences, min_shared)
def test_with_nothing_known_the_plan_is_the_usual_one(found, least):
    assert pack_behind(found, [0] * len(found), least) == pack(found, least)


@given(sequences)
def test_a_least_run_of_one_lays_each_distinct_prefix_once(found):
    prefixes = {tuple(s[:stop]) for s in found for stop in range(1, len(s) + 1)}
    distinct_ends = [s for i, s in enumerate(found) if s not in found[:i]]
    assert len(pack(distinct_ends, 1).ids) == len(prefixes)


def test_a_prompt_with_three_responses_stands_once():
    prompt = list(range(10))
    packed = pack([[*prompt, 20, 21], [*prompt, 30], prompt])
    assert packed.ids == [*prompt, 20, 21, 30] or packed.ids == [*prompt, 30, 20, 21]
    assert [node.parent for node in packed.nodes] == [-1, 0, 0]
    assert [node.first_position for node in packed.nodes] == [0, 10, 10]
    assert packed.ends[2] == 9


@given(sequences, st.integers(1, 60), st.integers(1, 40))
def test_packed_batches_hold_every_position_once_within_the_budget(found, max_tokens, least):
    batches = packed_batches(found, max_tokens, least)
    assert sorted(i for batch in batches for i in batch) == list(range(len(found)))
    for batch in batches:
        row = pack([found[i] for i in batch], least).ids
        assert len(row) <= max_tokens or len(batch) == 1


def test_a_prompt_shorter_than_the_minimum_counts_for_each_answer():
    prompt = list(range(20))
    found = [[*prompt, 100 + answer] for answer in range(6)]
    assert len(packed_batches(found, 42, min_shared=1)) == 1
    assert len(packed_batches(found, 42, min_shared=21)) == 3


@given(sequences, st.integers(1, 60))
def test_packed_batches_are_deterministic(found, max_tokens):
    assert packed_batches(found, max_tokens) == packed_batches(found, max_tokens)


def test_short_common_prefixes_do_not_break_the_budget():
    # Too short to share: each sequence stands in the row whole.
    found = [[*range(MIN_SHARED - 1), 100 + i] for i in range(20)]
    for batch in packed_batches(found, 5 * MIN_SHARED):
        assert len(pack([found[i] for i in batch]).ids) <= 5 * MIN_SHARED


def test_a_group_shares_its_prompt_within_one_batch():
    prompt = list(range(100))
    found = [[*prompt, 200 + i] for i in range(20)]
    assert len(packed_batches(found, 300)) == 1


@given(sequences, st.integers(1, 60))
def test_padded_batches_hold_every_position_once_within_the_budget(found, max_tokens):
    batches = padded_batches(found, max_tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(found)))
    for batch in batches:
        widest = max(len(found[i]) for i in batch)
        assert widest * len(batch) <= max_tokens or len(batch) == 1


@pytest.mark.parametrize("plan", [packed_batches, padded_batches])
def test_no_sequences_are_no_batches(plan):
    assert plan([], 10) == []
