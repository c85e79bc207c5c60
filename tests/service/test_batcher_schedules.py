"""Whatever comes when, raises, leaves or closes: every sequence is answered once, with its own.

Time is virtual and the engine's thread is the loop itself, so that a schedule is the same each time
it is tried, and the one that breaks something is made as short as it can be.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st
from in_loop import InLoop

from plaudit.joint_model import Asked, Computed
from plaudit.packing import padded_batches
from service.batcher import Batcher
from service.fair_queue import Caller
from service.metrics import Metrics
from service.work import EngineFault, Work

METRICS = Metrics()
BUDGET = 16
# First tokens that make the engine raise, give a score too few, fail to plan, or forget to.
RAISES, TOO_FEW, NO_PLAN, FORGOTTEN = 666, 555, 777, 888
FAULTS = (RAISES, TOO_FEW, NO_PLAN, FORGOTTEN)
CALLERS = (Caller(client="ppo"), Caller("eval", "judge"), Caller("offline"))


@dataclass(eq=False)
class Engine:
    """Scores a sequence by the sum of its tokens; ``computed`` are those that it was given."""

    computed: list[int] = field(default_factory=list)

    def batches(self, asked: list[Asked], max_tokens: int) -> list[list[int]]:
        if any(one.ids[0] == NO_PLAN for one in asked):
            raise ZeroDivisionError
        planned = padded_batches([one.ids for one in asked], max_tokens)
        kept = [[i for i in batch if asked[i].ids[0] != FORGOTTEN] for batch in planned]
        return [batch for batch in kept if batch]

    def compute(self, asked: list[Asked]) -> Computed:
        firsts = [one.ids[0] for one in asked]
        self.computed += [one.ids[-1] for one in asked]
        if RAISES in firsts:
            raise RuntimeError("poison")
        scores = np.array([sum(one.ids) for one in asked], np.float32)
        return Computed(scores[: -1 if TOO_FEW in firsts else None], len(asked), 0)

    def forget(self) -> None: ...


@dataclass(frozen=True)
class Submit:
    """A sequence of so many tokens, which begins with ``first``, of a caller."""

    first: int
    tokens: int
    caller: int


@dataclass(frozen=True)
class Leave:
    """The caller of an earlier sequence hangs up."""

    which: int


@dataclass(frozen=True)
class Wait:
    seconds: float


submits = st.builds(
    Submit, st.sampled_from([1, 1, 1, *FAULTS]), st.integers(1, 2 * BUDGET), st.integers(0, 2)
)
sound = st.builds(Submit, st.just(1), st.integers(1, 2 * BUDGET), st.integers(0, 2))
leaves = st.builds(Leave, st.integers(0, 30))
waits = st.builds(Wait, st.sampled_from([0.0, 0.0004, 0.002, 0.01, 0.5]))
forwards = st.sampled_from([0.0, 0.001, 0.02])


async def play(schedule: list[Any], seconds: float, close_at_once: bool) -> tuple[Engine, Any]:
    """The engine, and each sequence with what it is and whether its caller left it in time."""
    engine, played = Engine(), []
    batcher = Batcher(InLoop(seconds), METRICS, max_batch_tokens=BUDGET, linger_seconds=0.002)
    for number, step in enumerate(schedule):
        match step:
            case Submit(first, tokens, caller):
                # The last token tells sequences apart.
                ids = [first] + [2] * (tokens - 1) + [1000 + number]
                played.append(batcher.submit(engine, Asked(0, ids), CALLERS[caller]))
            case Leave(which) if played:
                work = played[which % len(played)]
                if work.waiters:
                    work.leave()
            case Wait(while_):
                await asyncio.sleep(while_)
    if not close_at_once:
        await asyncio.wait([work.done for work in played], timeout=1000) if played else None
    await batcher.close()
    return engine, played


def outcome(work: Work) -> float | EngineFault | None:
    """Its score, its error, or None for one that was left."""
    assert work.done.done(), "never answered"
    if work.done.cancelled():
        return None
    error = work.done.exception()
    assert error is None or isinstance(error, EngineFault)
    return error or work.done.result()


@settings(max_examples=150, derandomize=True, database=None)
@given(st.lists(submits | submits | leaves | waits, max_size=30), forwards, st.booleans())
def test_everybody_is_answered_once_with_a_score_or_an_error_of_its_own(
    schedule: list[Any], seconds: float, close_at_once: bool
) -> None:
    engine, played = virtual_time.run(play(schedule, seconds, close_at_once))
    for work in played:
        found = outcome(work)
        if isinstance(found, float):
            assert found == sum(work.asked.ids)
            assert work.asked.ids[0] not in FAULTS
        if found is None:
            assert work.waiters == 0
            assert work.asked.ids[-1] not in engine.computed


@settings(max_examples=100, derandomize=True, database=None)
@given(st.lists(sound | sound | leaves | waits, max_size=30), forwards)
def test_without_faults_everybody_who_stays_gets_the_score_computed_once(
    schedule: list[Any], seconds: float
) -> None:
    engine, played = virtual_time.run(play(schedule, seconds, close_at_once=False))
    for work in played:
        if work.waiters:
            assert outcome(work) == sum(work.asked.ids)
    assert len(engine.computed) == len(set(engine.computed))


@settings(max_examples=60, derandomize=True, database=None)
@given(st.lists(submits, min_size=1, max_size=20), forwards)
def test_a_fault_that_a_sequence_brings_is_nobody_elses_in_another_window(
    schedule: list[Any], seconds: float
) -> None:
    """One after the other, so that each has a window of its own."""
    apart = [step for one in schedule for step in (one, Wait(10))]
    _, played = virtual_time.run(play(apart, seconds, close_at_once=False))
    for work in played:
        assert isinstance(outcome(work), EngineFault) == (work.asked.ids[0] in FAULTS)
