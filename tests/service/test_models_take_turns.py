"""Models that share a thread share the queue: priorities and clients count across them."""

import asyncio
from collections.abc import Iterable

import pytest
import virtual_time
from in_loop import InLoop
from noted_forwards import NotedForwards

from plaudit.joint_model import Asked
from service.batcher import TURNS, Batcher
from service.fair_queue import Caller
from service.metrics import Metrics
from service.work import EngineFault

TOKENS = 4  # of a sequence
BUDGET = 16
SECONDS = 1.0
METRICS = Metrics()


def batcher() -> Batcher:
    return Batcher(InLoop(SECONDS), METRICS, max_batch_tokens=BUDGET, linger_seconds=0.0)


def sequences(firsts: Iterable[int]) -> list[Asked]:
    return [Asked(0, [first] * TOKENS) for first in firsts]


def order(callers: list[Caller], count: int) -> list[int]:
    """Whose sequences are computed, the first first, where each caller asks ``count`` of a model of
    its own at once."""

    async def story() -> list[int]:
        queue, models = batcher(), [NotedForwards() for _ in callers]
        works = [
            queue.submit(model, one, caller)
            for model, caller in zip(models, callers, strict=True)
            for one in sequences(range(count))
        ]
        await asyncio.wait([work.done for work in works])
        await queue.close()
        begun = [(at, whose) for whose, one in enumerate(models) for at in one.begun().values()]
        return [whose for _, whose in sorted(begun)]

    return virtual_time.run(story())


def test_priorities_get_16_to_4_to_1_though_each_asks_another_model():
    callers = [Caller("offline", "a"), Caller("eval", "b"), Caller("train", "c")]
    first = order(callers, 400)[: 10 * (16 + 4 + 1)]
    assert first.count(0) == pytest.approx(10, abs=3)
    assert first.count(1) == pytest.approx(40, abs=6)
    assert first.count(2) == pytest.approx(160, abs=8)


def test_clients_get_alike_though_each_asks_another_model():
    first = order([Caller(client=name) for name in "abc"], 60)[:90]
    assert [first.count(whose) for whose in range(3)] == pytest.approx([30, 30, 30], abs=4)


def test_urgent_work_waits_for_one_forward_of_another_models_offline_work():
    async def story() -> tuple[float, NotedForwards, NotedForwards]:
        queue, large, small = batcher(), NotedForwards(), NotedForwards()
        offline = Caller("offline", "batch")
        works = [queue.submit(large, one, offline) for one in sequences(range(100))]
        await asyncio.sleep(10.5 * SECONDS)
        asked = asyncio.get_running_loop().time()
        urgent = queue.submit(small, *sequences([0]), Caller("train", "ppo"))
        await asyncio.wait([urgent.done, *(work.done for work in works)])
        await queue.close()
        return asked, large, small

    asked, large, small = virtual_time.run(story())
    [(begun, _)] = small.forwards
    assert sum(asked <= at < begun for at, _ in large.forwards) <= 1


def test_a_model_whose_plan_fails_is_no_other_models_fault():
    class Planless(NotedForwards):
        def batches(self, asked, max_tokens):
            raise ZeroDivisionError

    async def story():
        queue, broken, sound = batcher(), Planless(), NotedForwards()
        caller = Caller(client="ppo")
        works = [
            queue.submit(model, one, caller)
            for one in sequences(range(BUDGET // TURNS))
            for model in (broken, sound)
        ]
        found = await asyncio.gather(*(work.done for work in works), return_exceptions=True)
        await queue.close()
        return found[::2], found[1::2]

    failed, scored = virtual_time.run(story())
    assert all(isinstance(one, EngineFault) for one in failed)
    assert scored == [0.0] * len(failed)
