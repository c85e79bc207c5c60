"""Every sequence is settled exactly once, with its own score, whatever the engine does."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from plaudit.joint_model import Asked, Computed
from plaudit.packing import padded_batches
from service.batcher import Batcher
from service.fair_queue import Caller
from service.logs import JsonFormatter
from service.work import HELD_SECONDS, EngineFault

CALLER = Caller(client="ppo")


class Engine:
    """Scores a sequence by its sum. Fails on the marker 666, the first time on 555, and to plan
    with 777; has no memory for more than ``most`` tokens; holds while ``gate`` is shut."""

    def __init__(self):
        self.seen: list[list[list[int]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = False
        self.most, self.forgot = 2**31, 0

    def batches(self, asked, max_tokens):
        if any(777 in one.ids for one in asked):
            raise ZeroDivisionError
        return padded_batches([one.ids for one in asked], max_tokens)

    def compute(self, asked):
        sequences = [one.ids for one in asked]
        self.waiting = not self.gate.is_set()
        self.gate.wait()
        stumbles = any(555 in s for s in sequences) and not any(
            555 in s for batch in self.seen for s in batch
        )
        self.seen.append([list(s) for s in sequences])
        if stumbles or any(666 in s for s in sequences):
            raise RuntimeError("poison")
        if sum(map(len, sequences)) > self.most:
            raise MemoryError
        scores = np.array([sum(s) for s in sequences], np.float32)
        return Computed(scores, sum(map(len, sequences)), 0)

    def forget(self):
        self.forgot += 1


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
async def batcher(engine, metrics):
    thread = ThreadPoolExecutor(1)
    batcher = Batcher(thread, metrics, max_batch_tokens=32, linger_seconds=0)
    yield batcher
    engine.gate.set()
    await batcher.close()
    thread.shutdown()


async def test_concurrent_sequences_share_forwards_and_get_their_own_scores(batcher, engine):
    sequences = [[i] * (1 + i % 7) for i in range(200)]
    works = [batcher.submit(engine, Asked(0, s), CALLER) for s in sequences]
    scores = await asyncio.gather(*(work.done for work in works))
    assert scores == [sum(s) for s in sequences]
    assert len(engine.seen) < 60
    assert sorted(s for batch in engine.seen for s in batch) == sorted(sequences)
    assert all(max(map(len, batch)) * len(batch) <= 32 for batch in engine.seen)


async def test_a_failing_forward_fails_its_batch_and_no_other(batcher, engine):
    works = [batcher.submit(engine, Asked(0, s), CALLER) for s in ([1] * 30, [666] * 31, [2] * 32)]
    results = await asyncio.gather(*(w.done for w in works), return_exceptions=True)
    assert (results[0], results[2]) == (30.0, 64.0)
    assert isinstance(results[1], EngineFault)
    assert isinstance(results[1].__cause__, RuntimeError)


async def test_a_lone_sequence_that_fails_once_is_tried_again_and_scored(batcher, engine):
    assert await batcher.submit(engine, Asked(0, [555]), CALLER).done == 555.0
    assert engine.seen == [[[555]]] * 2


async def test_a_lone_sequence_that_fails_twice_is_given_up(batcher, engine):
    with pytest.raises(EngineFault, match="RuntimeError in a batch of 1") as raised:
        await batcher.submit(engine, Asked(0, [666]), CALLER).done
    assert raised.value.held_seconds == HELD_SECONDS
    assert engine.seen == [[[666]]] * 2


async def test_what_failed_among_others_and_then_alone_is_not_tried_a_third_time(wide, engine):
    works = [wide.submit(engine, Asked(0, [i]), CALLER) for i in (1, 666)]
    [scored, fault] = await outcomes(works)
    assert (scored, fault.held_seconds) == (1.0, HELD_SECONDS)
    assert sum([666] in batch for batch in engine.seen) == 2


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.AcceleratorError("CUDA error: an illegal memory access")],
    ids=["memory", "device"],
)
async def test_without_memory_or_a_device_a_lone_sequence_is_not_tried_again(
    batcher, engine, error
):
    def compute(asked):
        engine.seen.append(asked)
        raise error

    engine.compute = compute
    [fault] = await outcomes([batcher.submit(engine, Asked(0, [1]), CALLER)])
    assert fault.held_seconds == 0
    assert len(engine.seen) == 1


async def outcomes(works):
    return await asyncio.gather(*(work.done for work in works), return_exceptions=True)


@pytest.fixture
async def wide(engine, metrics):
    """A batcher whose forwards hold 64 sequences of one token."""
    thread = ThreadPoolExecutor(1)
    batcher = Batcher(thread, metrics, max_batch_tokens=64, linger_seconds=0)
    yield batcher
    await batcher.close()
    thread.shutdown()


@pytest.mark.parametrize("poison", [{0}, {17}, {63}, {0, 63}, {31, 32}])
async def test_an_item_that_fails_a_forward_fails_alone(wide, engine, poison):
    works = [wide.submit(engine, Asked(0, [666 if i in poison else i]), CALLER) for i in range(64)]
    found = await outcomes(works)
    assert len(engine.seen[0]) == 64
    for place, outcome in enumerate(found):
        if place in poison:
            assert isinstance(outcome, EngineFault)
            assert "in a batch of 1" in str(outcome)
        else:
            assert outcome == place
    assert len(engine.seen) <= 1 + 4 * 6


async def test_without_memory_what_fits_is_scored_and_forwards_stay_small(wide, engine, metrics):
    engine.most = 9
    works = [wide.submit(engine, Asked(0, [i]), CALLER) for i in range(63)]
    large = wide.submit(engine, Asked(0, [1] * 10), CALLER)
    assert await outcomes(works) == list(range(63))
    [fault] = await outcomes([large])
    assert (fault.kind, fault.held_seconds) == ("capacity", 0)
    assert engine.forgot
    before = len(engine.seen)
    assert await outcomes([wide.submit(engine, Asked(0, [i]), CALLER) for i in range(64)]) == [
        *range(64)
    ]
    assert all(len(batch) <= 9 for batch in engine.seen[before:])  # none was tried in vain
    assert metrics.registry.get_sample_value("plaudit_batch_token_budget") == wide.budget() <= 8


async def test_memory_that_cannot_be_given_back_ends_no_loop(wide, engine):
    def forget():
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    engine.most, engine.forget = 8, forget
    works = [wide.submit(engine, Asked(0, [i]), CALLER) for i in range(64)]
    assert await outcomes(works) == [*range(64)]
    assert wide.hopeless(3600.0) == "the device is lost: AcceleratorError"


async def test_a_forward_that_does_not_end_makes_the_process_hopeless(batcher, engine):
    engine.gate.clear()
    work = batcher.submit(engine, Asked(0, [5]), CALLER)
    while batcher.hopeless(0.0) is None:
        await asyncio.sleep(0)
    assert batcher.hopeless(3600.0) is None
    engine.gate.set()
    assert await work.done == 5.0
    assert batcher.hopeless(0.0) is None


async def test_an_engine_that_fails_at_everything_is_not_asked_for_each_item(wide, engine):
    works = [wide.submit(engine, Asked(0, [666]), CALLER) for _ in range(64)]
    assert all(isinstance(outcome, EngineFault) for outcome in await outcomes(works))
    assert len(engine.seen) == 1 + 1 + 2 * 6


async def test_what_callers_send_does_not_fail_a_canary_in_the_same_forward(wide, engine):
    works = [wide.submit(engine, Asked(0, [666]), CALLER) for _ in range(63)]
    canary = wide.submit(engine, Asked(0, [5]), Caller("offline"))
    assert await canary.done == 5.0
    assert all(isinstance(outcome, EngineFault) for outcome in await outcomes(works))
    assert len(engine.seen[0]) == 64


async def test_the_services_own_work_is_no_stage_of_a_request(batcher, engine, metrics):
    def count(stage):
        name = "plaudit_stage_duration_seconds_count"
        return metrics.registry.get_sample_value(name, {"stage": stage})

    await batcher.submit(engine, Asked(0, [5]), Caller("offline")).done
    assert (count("queue"), count("compute")) == (0, 0)
    await batcher.submit(engine, Asked(0, [6]), CALLER).done
    assert (count("queue"), count("compute")) == (1, 1)


async def test_what_nobody_waits_for_is_never_computed(batcher, engine):
    engine.gate.clear()
    first = batcher.submit(engine, Asked(0, [1]), CALLER)
    while not engine.waiting:  # until the engine holds the first
        await asyncio.sleep(0)
    left, wanted = (
        batcher.submit(engine, Asked(0, [2]), CALLER),
        batcher.submit(engine, Asked(0, [3]), CALLER),
    )
    left.leave()
    engine.gate.set()
    assert [await first.done, await wanted.done] == [1.0, 3.0]
    assert [[2]] not in engine.seen
    assert left.done.cancelled()


async def test_one_item_does_not_wait_for_all_of_a_large_request(batcher, engine):
    engine.gate.clear()
    large = [batcher.submit(engine, Asked(0, [i] * 16), CALLER) for i in range(100)]
    while not engine.waiting:  # until the engine holds the first of them
        await asyncio.sleep(0)
    small = batcher.submit(engine, Asked(0, [5]), Caller())
    engine.gate.set()
    assert await small.done == 5.0
    assert sum(work.done.done() for work in large) < 10
    assert [await work.done for work in large] == [16.0 * i for i in range(100)]


async def test_urgent_work_goes_before_offline_work(batcher, engine):
    engine.gate.clear()
    offline = [batcher.submit(engine, Asked(0, [i] * 16), Caller("offline")) for i in range(100)]
    while not engine.waiting:
        await asyncio.sleep(0)
    train = [batcher.submit(engine, Asked(0, [i] * 16), CALLER) for i in range(20)]
    engine.gate.set()
    await asyncio.wait([work.done for work in train])
    assert sum(work.done.done() for work in offline) < 15
    await asyncio.wait([work.done for work in offline])


async def test_a_failure_to_plan_is_the_fault_of_its_window_and_no_other(batcher, engine):
    poison = batcher.submit(engine, Asked(0, [777]), CALLER)
    with pytest.raises(EngineFault, match="ZeroDivisionError in a batch of 1"):
        await poison.done
    assert await batcher.submit(engine, Asked(0, [4]), CALLER).done == 4.0


async def test_closing_settles_what_is_queued(batcher, engine):
    engine.gate.clear()
    works = [batcher.submit(engine, Asked(0, [i] * 30), CALLER) for i in range(5)]
    await asyncio.sleep(0)
    engine.gate.set()
    await batcher.close()
    results = await asyncio.gather(*(w.done for w in works), return_exceptions=True)
    assert all(isinstance(r, float | EngineFault) for r in results)


async def test_a_failing_forward_is_logged_without_its_message(batcher, engine, caplog):
    work = batcher.submit(engine, Asked(0, [666]), CALLER)
    await asyncio.wait([work.done])
    [record] = [r for r in caplog.records if r.message == "engine fault"]
    assert "RuntimeError" in JsonFormatter().format(record)
    assert "poison" not in JsonFormatter().format(record)
