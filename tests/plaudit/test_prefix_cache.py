"""What is known of prefixes: the right states, within the bytes, the latest used."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.packing import Packed
from plaudit.prefix_cache import BLOCK, PrefixCache, chain

HEADS, WIDTH, CALLS = 2, 3, 4
BYTES = CALLS * 2 * BLOCK * HEADS * WIDTH * 4

# Whole blocks of one token each, and a rest: many sequences begin alike.
sequences = st.builds(
    lambda blocks, rest: [token for token in blocks for _ in range(BLOCK)] + [9] * rest,
    st.lists(st.integers(1, 2), max_size=4),
    st.integers(1, BLOCK + 1),
)
calls = st.lists(st.lists(sequences, min_size=1, max_size=4), min_size=1, max_size=8)


def states(packed: Packed) -> torch.Tensor:
    """Keys and values (C, 2, T K, D) that tell the call, which of the two, head and prefix."""
    prefixes: list[tuple[int, ...]] = []
    for index in range(len(packed.nodes)):
        path = [t for a in packed.ancestors(index) for t in tokens(packed, a)]
        own = tokens(packed, index)
        prefixes += [(*path, *own[: i + 1]) for i in range(len(own))]
    rows = [[hash((prefix, head)) % 1000 for head in range(HEADS)] for prefix in prefixes]
    base = torch.tensor(rows, dtype=torch.float32).view(-1, 1).expand(-1, WIDTH)
    kinds = torch.arange(CALLS * 2).view(CALLS, 2, 1, 1) * 1000
    return base + kinds


def tokens(packed: Packed, index: int) -> list[int]:
    node = packed.nodes[index]
    return packed.ids[node.start : node.stop]


def forward(cache: PrefixCache, call: list[list[int]], space: str = "model") -> int:
    """One forward, its held states checked; how many tokens were held."""
    recalled = cache.recall(space, call, BYTES // BLOCK, torch.device("cpu"))
    expected = states(recalled.packed)
    first = recalled.packed.held * HEADS
    for keys, values in expected:
        found = recalled.memory.extend(keys[first:].clone(), values[first:].clone(), HEADS)
        torch.testing.assert_close(found, (keys.clone(), values.clone()), rtol=0, atol=0)
    cache.keep(recalled)
    return recalled.packed.held


@given(calls, st.integers(0, 6))
def test_held_states_are_those_once_made_within_the_bytes(calls, blocks):
    cache = PrefixCache(blocks * BYTES)
    for call in calls:
        forward(cache, call)
        assert cache.bytes <= blocks * BYTES
        assert cache.bytes % BYTES == 0


@given(calls)
def test_with_room_all_but_the_last_token_of_a_repeat_is_held_in_blocks(calls):
    cache = PrefixCache(2**20)
    for call in calls:
        forward(cache, call)
    for call in calls:
        for sequence in call:
            assert forward(cache, [sequence]) == (len(sequence) - 1) // BLOCK * BLOCK


def test_the_latest_used_stay():
    cache = PrefixCache(3 * BYTES)
    a, b, c = ([token] * (BLOCK + 1) for token in (1, 2, 3))
    forward(cache, [a]), forward(cache, [b]), forward(cache, [c])
    assert forward(cache, [a]) == BLOCK
    forward(cache, [[4] * (BLOCK + 1)])
    assert forward(cache, [b]) == 0
    assert forward(cache, [a]) == BLOCK


def test_the_end_of_a_sequence_leaves_before_its_beginning():
    cache = PrefixCache(2 * BYTES)
    long = [token for token in range(4) for _ in range(BLOCK)]
    forward(cache, [long])
    assert forward(cache, [long]) == 2 * BLOCK


def test_a_forward_remembers_no_more_than_there_is_room_for():
    recalled = PrefixCache(2 * BYTES).recall(
        "model", [[1] * 100, [2] * 100], BYTES // BLOCK, torch.device("cpu")
    )
    rows = torch.zeros(200 * HEADS, WIDTH)
    recalled.memory.extend(rows, rows, HEADS)
    assert sum(made.shape[1] for made in recalled.memory.made) == 2
    # The beginnings, since nothing else is of use without them.
    assert recalled.made == [digests[0] for digests in recalled.chains]


def test_one_model_knows_nothing_of_another():
    cache = PrefixCache(2**20)
    forward(cache, [[1] * 40], "one")
    assert forward(cache, [[1] * 40], "other") == 0
    assert forward(cache, [[1] * 40], "one") == 32


def test_a_block_is_known_by_all_before_it():
    one, other = [1] * 16 + [2] * 16, [3] * 16 + [2] * 16
    assert chain("model", one)[1] != chain("model", other)[1]
    assert chain("model", one)[0] == chain("model", one[:20])[0]
    assert chain("model", [1] * 15) == []
