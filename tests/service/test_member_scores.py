"""Single flight: identical work runs once, and a caller that gives up spoils nothing."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from plaudit.conversation import TokenSequence
from plaudit.joint_model import Asked
from service.batcher import Work
from service.cache import MemoryCache
from service.fair_queue import Caller
from service.member_scores import MemberScores, Scored

CALLER = Caller()
A, B = TokenSequence([1, 2]), TokenSequence([3])


class Queue:
    """A member whose work is settled by hand."""

    def __init__(self):
        self.works: list[Work] = []

    def submit(self, ids: Sequence[int], caller: Caller) -> Work:
        self.works.append(Work(Asked(0, ids), caller, asyncio.get_running_loop().create_future()))
        return self.works[-1]


@pytest.fixture
def queue():
    return Queue()


@pytest.fixture
def member(queue):
    return SimpleNamespace(name="m", submit=queue.submit, model=SimpleNamespace(revision="r"))


@pytest.fixture
def scores(metrics):
    return MemberScores(MemoryCache(1, metrics), "torch", metrics)


async def started(*tasks):
    """The tasks, once each has submitted or joined its work."""
    found = [asyncio.create_task(task) for task in tasks]
    for _ in range(5):
        await asyncio.sleep(0)
    return found


async def test_identical_work_of_two_callers_runs_once(scores, member, queue):
    tasks = await started(scores.of(member, [A], CALLER), scores.of(member, [A, B], CALLER))
    assert [work.asked.ids for work in queue.works] == [A.ids, B.ids]
    assert queue.works[0].waiters == 2
    for work, score in zip(queue.works, (0.5, 1.5), strict=True):
        work.done.set_result(score)
    assert await tasks[0] == [Scored(0.5, cached=False)]
    assert await tasks[1] == [Scored(0.5, cached=False), Scored(1.5, cached=False)]


async def test_what_was_computed_for_a_caller_that_gave_up_is_cached(scores, member, queue):
    [task] = await started(scores.of(member, [A, B], CALLER))
    queue.works[0].done.set_result(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [work.waiters for work in queue.works] == [0, 0]
    queue.works[1].done.cancel()
    await asyncio.gather(*scores._storing)
    [again] = await started(scores.of(member, [A], CALLER))
    assert await again == [Scored(0.5, cached=True)]


async def test_work_that_was_just_cancelled_is_not_joined(scores, member, queue):
    [task] = await started(scores.of(member, [A], CALLER))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    queue.works[0].done.cancel()
    [again] = await started(scores.of(member, [A], CALLER))
    queue.works[1].done.set_result(0.5)
    assert await again == [Scored(0.5, cached=False)]
