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


@pytest.mark.parametrize("drained", [True, False])
@pytest.mark.parametrize(("before", "share"), [("offline", 1 / 17), ("train", 1 / 17)])
def test_the_past_gives_no_claim(before, share, drained):
    """Neither an idle priority nor a busy one owes the other what it sent alone."""
    callers = {"train": Caller("train"), "offline": Caller("offline")}
    queue = queue_of([Piece(callers[before], 4) for _ in range(3000)])
    queue.take(10**9 if drained else 50 * QUANTUM)
    for _ in range(3000):
        for caller in callers.values():
            queue.push(Piece(caller, 4))
    taken = queue.take(34 * QUANTUM)
    sent = sum(piece.caller is callers["offline"] for piece in taken) / len(taken)
    assert sent == pytest.approx(share, rel=0.5)


def test_callers_that_are_put_back_keep_their_turns():
    """16 equal callers, windows of eight turns, of which two are used each time."""
    callers = [Caller() for _ in range(16)]
    queue = queue_of([Piece(caller, 16) for _ in range(400) for caller in callers])
    served = dict.fromkeys(callers, 0)
    for _ in range(200):
        taken = queue.take(8 * QUANTUM)
        done, rest = taken[: 2 * QUANTUM // 16], taken[2 * QUANTUM // 16 :]
        queue.put_back(rest)
        for piece in done:
            served[piece.caller] += piece.tokens
    assert max(served.values()) - min(served.values()) <= QUANTUM


def test_work_put_back_comes_out_first_and_in_its_order():
    callers = [Caller() for _ in range(3)]
    queue = queue_of([Piece(caller, 8) for _ in range(100) for caller in callers])
    first = queue.take(2 * QUANTUM)
    queue.put_back(first)
    again = queue.take(2 * QUANTUM)
    assert [id(piece) for piece in again] == [id(piece) for piece in first]


def test_who_is_more_urgent_does_not_wait_for_what_is_put_back():
    queue = queue_of([Piece(Caller("offline"), 8) for _ in range(1000)])
    taken = queue.take(8 * QUANTUM)
    urgent = Piece(Caller("train"), 8)
    queue.push(urgent)
    queue.put_back(taken[QUANTUM // 8 :])
    assert queue.take(1) == [urgent]


def test_priorities_that_are_put_back_keep_their_shares():
    callers = {priority: Caller(priority) for priority in SHARES}
    queue = queue_of([Piece(caller, 4) for _ in range(6000) for caller in callers.values()])
    begun = dict.fromkeys(SHARES, 0)
    for _ in range(84):
        taken = queue.take(8 * QUANTUM)
        for piece in taken[: 2 * QUANTUM // 4]:
            begun[piece.caller.priority] += piece.tokens
        queue.put_back(taken[2 * QUANTUM // 4 :])
        for piece in taken[: 2 * QUANTUM // 4]:
            queue.push(Piece(piece.caller, piece.tokens))
    expected = {p: share / sum(SHARES.values()) for p, share in SHARES.items()}
    total = sum(begun.values())
    assert {p: n / total for p, n in begun.items()} == pytest.approx(expected, rel=0.1)


def test_a_caller_whose_work_was_put_back_takes_one_turn_at_a_time():
    large, small = Caller(), Caller()
    queue = queue_of([Piece(large, 8) for _ in range(1000)])
    taken = queue.take(8 * QUANTUM)
    queue.push(Piece(small, 8))
    queue.put_back(taken)
    again = queue.take(8 * QUANTUM)
    assert [piece.caller is small for piece in again].index(True) == QUANTUM // 8


def test_a_piece_larger_than_many_turns_comes_out():
    queue = queue_of([Piece(Caller("offline"), 100 * QUANTUM)])
    assert len(queue.take(1)) == 1


def test_drain_empties_the_queue():
    pieces = [Piece(Caller(), 5) for _ in range(3)]
    queue = queue_of(pieces)
    assert queue.drain() == pieces
    assert len(queue) == 0
    assert queue.take(100) == []
