"""Callers take turns: nothing is lost, nobody waits for the whole of another."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.fair_queue import SHARES, Caller, FairQueue

QUANTUM = 64


@dataclass(eq=False)
class Piece:
    caller: Caller
    tokens: int


def queue_of(pieces) -> FairQueue[Piece]:
    queue: FairQueue[Piece] = FairQueue(QUANTUM)
    for piece in pieces:
        queue.push(piece)
    return queue


pushes = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 3 * QUANTUM)), min_size=1, max_size=60
)


@given(pushes, st.lists(st.booleans(), min_size=1, max_size=5), st.integers(1, 500))
def test_all_comes_out_once_and_in_each_callers_order(drawn, returns, tokens):
    callers = [Caller(p) for p in ("train", "train", "eval", "eval", "offline", "offline")]
    pieces = [Piece(callers[who], size) for who, size in drawn]
    queue = queue_of(pieces)
    found: list[Piece] = []
    turn = 0
    while len(queue):
        taken = queue.take(tokens)
        assert taken
        kept = taken[: len(taken) // 2 + 1] if returns[turn % len(returns)] else taken
        queue.put_back(taken[len(kept) :])
        found += kept
        turn += 1
        assert len(queue) == len(pieces) - len(found)
    for caller in callers:
        mine = [piece for piece in pieces if piece.caller is caller]
        assert [piece for piece in found if piece.caller is caller] == mine


@given(pushes, st.integers(1, 500))
def test_a_take_is_as_large_as_asked_but_for_one_turn(drawn, tokens):
    queue = queue_of([Piece(Caller(), size) for _, size in drawn])
    total = sum(size for _, size in drawn)
    taken = sum(piece.tokens for piece in queue.take(tokens))
    assert min(tokens, total) <= taken < tokens + 4 * QUANTUM


def test_a_single_item_waits_for_one_turn_of_a_large_request():
    large, small = Caller(), Caller()
    queue = queue_of([*(Piece(large, 8) for _ in range(1000)), Piece(small, 8)])
    taken = queue.take(10 * QUANTUM)
    place = next(i for i, piece in enumerate(taken) if piece.caller is small)
    assert place == QUANTUM // 8


def test_priorities_share_the_tokens_and_none_starves():
    callers = {priority: Caller(priority) for priority in SHARES}
    queue = queue_of([Piece(caller, 4) for _ in range(3000) for caller in callers.values()])
    taken = queue.take(84 * QUANTUM)
    sent = {
        p: sum(piece.tokens for piece in taken if piece.caller is c) for p, c in callers.items()
    }
    total = sum(sent.values())
    expected = {p: share / sum(SHARES.values()) for p, share in SHARES.items()}
    assert {p: n / total for p, n in sent.items()} == pytest.approx(expected, rel=0.05)


def test_many_callers_of_a_low_priority_get_no_more_than_its_share():
    train = Caller("train")
    offline = [Piece(Caller("offline"), 4) for _ in range(3000)]
    queue = queue_of([*offline, *(Piece(train, 4) for _ in range(3000))])
    taken = queue.take(34 * QUANTUM)
    assert sum(piece.caller is train for piece in taken) / len(taken) == pytest.approx(
        16 / 17, rel=0.05
    )


def test_a_priority_that_was_idle_has_no_claim_on_the_past():
    train, offline = Caller("train"), Caller("offline")
    queue = queue_of([Piece(offline, 4) for _ in range(3000)])
    queue.take(50 * QUANTUM)
    for _ in range(3000):
        queue.push(Piece(train, 4))
    taken = queue.take(34 * QUANTUM)
    assert sum(piece.caller is offline for piece in taken) / len(taken) == pytest.approx(
        1 / 17, rel=0.2
    )


def test_work_put_back_comes_out_first_and_earns_nothing():
    one, other = Caller(), Caller()
    queue = queue_of([Piece(caller, 8) for _ in range(100) for caller in (one, other)])
    first = queue.take(4 * QUANTUM)
    queue.put_back(first)
    again = queue.take(4 * QUANTUM)
    assert {id(piece) for piece in again} == {id(piece) for piece in first}


def test_a_piece_larger_than_many_turns_comes_out():
    queue = queue_of([Piece(Caller("offline"), 100 * QUANTUM)])
    assert len(queue.take(1)) == 1


def test_drain_empties_the_queue():
    pieces = [Piece(Caller(), 5) for _ in range(3)]
    queue = queue_of(pieces)
    assert queue.drain() == pieces
    assert len(queue) == 0
    assert queue.take(100) == []
