"""Single flight: identical work runs once, and a caller that gives up spoils nothing."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from plaudit.joint_model import Asked
from service.admission import Admission
from service.cache import MemoryCache
from service.fair_queue import Caller
from service.items import Encoded, Seen
from service.member_scores import MemberScores, Scored
from service.metrics import Metrics
from service.work import EngineFault, Work, settle

CALLER = Caller()
POISON = EngineFault("IndexError in a batch of 1", held_seconds=60)
HOUSE = Admission(100, Metrics())
A, B = Encoded([1, 2], Seen(b"a", 2, 0, None)), Encoded([3], Seen(b"b", 1, 0, None))


def admit(tokens):
    return HOUSE.admit(CALLER, tokens, asyncio.get_running_loop().time() + 60)


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
    return SimpleNamespace(name="m", submit=queue.submit, revision="r")


@pytest.fixture
def scores(metrics):
    metrics.rewards.watch("m", "r", None)
    return MemberScores(MemoryCache(10, metrics), metrics)


async def one_row(scores, member, row):
    (outcomes,) = await scores.of([member], [row], [[None] * len(row)], CALLER, admit)
    return outcomes


async def started(*tasks):
    """The tasks, once each has submitted or joined its work."""
    found = [asyncio.create_task(task) for task in tasks]
    for _ in range(5):
        await asyncio.sleep(0)
    return found


async def test_identical_work_of_two_callers_runs_once(scores, member, queue):
    tasks = await started(one_row(scores, member, [A]), one_row(scores, member, [A, B]))
    assert [work.asked.ids for work in queue.works] == [A.ids, B.ids]
    assert queue.works[0].waiters == 2
    for work, score in zip(queue.works, (0.5, 1.5), strict=True):
        work.done.set_result(score)
    assert await tasks[0] == [Scored(0.5, cached=False)]
    assert await tasks[1] == [Scored(0.5, cached=False), Scored(1.5, cached=False)]


async def test_what_was_computed_for_a_caller_that_gave_up_is_cached(scores, member, queue):
    [task] = await started(one_row(scores, member, [A, B]))
    queue.works[0].done.set_result(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [work.waiters for work in queue.works] == [0, 0]
    queue.works[1].done.cancel()
    await asyncio.gather(*scores._storing)
    [again] = await started(one_row(scores, member, [A]))
    assert await again == [Scored(0.5, cached=True)]


async def test_what_was_kept_is_not_looked_up_again(scores, member, queue, metrics):
    kept = [[Scored(0.5, cached=True), None]]
    [task] = await started(scores.of([member], [[A, B]], kept, CALLER, admit))
    assert [work.asked.ids for work in queue.works] == [B.ids]
    queue.works[0].done.set_result(1.5)
    assert await task == [[Scored(0.5, cached=True), Scored(1.5, cached=False)]]
    labels = {"tier": "l1", "result": "miss"}
    assert metrics.registry.get_sample_value("plaudit_cache_lookups_total", labels) == 1


async def test_work_that_was_just_cancelled_is_not_joined(scores, member, queue):
    [task] = await started(one_row(scores, member, [A]))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    queue.works[0].done.cancel()
    [again] = await started(one_row(scores, member, [A]))
    queue.works[1].done.set_result(0.5)
    assert await again == [Scored(0.5, cached=False)]


async def test_all_members_of_an_item_are_submitted_before_the_next_item(scores, queue):
    def member(name):
        def submit(ids, caller):
            names.append(name)
            return queue.submit(ids, caller)

        return SimpleNamespace(name=name, submit=submit, revision=name)

    names: list[str] = []
    rows = [
        [Encoded(one.ids, Seen(name + one.seen.key, 1, 0, None)) for one in (A, B)]
        for name in (b"m", b"n")
    ]
    [task] = await started(
        scores.of([member("m"), member("n")], rows, [[None, None]] * 2, CALLER, admit)
    )
    assert names == ["m", "n", "m", "n"]
    assert [work.asked.ids for work in queue.works] == [A.ids, A.ids, B.ids, B.ids]
    for work, score in zip(queue.works, (1.0, 2.0, 3.0, 4.0), strict=True):
        work.done.set_result(score)
    assert [[one.score for one in row] for row in await task] == [[1.0, 3.0], [2.0, 4.0]]


async def test_what_somebody_else_still_waits_for_stays_in_the_house(scores, member, queue):
    house = Admission(10**6, Metrics())

    def enter(tokens):
        return house.admit(CALLER, tokens, asyncio.get_running_loop().time() + 60)

    tasks = await started(*(scores.of([member], [[A]], [[None]], CALLER, enter) for _ in range(2)))
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    assert sum(house._used.values()) == 2
    queue.works[0].done.set_result(0.5)
    assert await tasks[1] == [[Scored(0.5, cached=False)]]
    assert sum(house._used.values()) == 0


async def test_what_failed_by_itself_a_moment_ago_is_not_computed_again(scores, member, queue):
    [first] = await started(one_row(scores, member, [A]))
    again = asyncio.create_task(one_row(scores, member, [A]))  # runs before who waits is told
    settle(queue.works, error=POISON)
    await started()
    assert len(queue.works) == 1
    for [outcome] in await asyncio.gather(first, again):
        assert outcome.type == "engine-fault"


@pytest.mark.parametrize(
    ("ending", "told"),
    [({"error": POISON}, "quarantined"), ({"scores": [0.5]}, 0.5)],
    ids=["failed", "scored"],
)
async def test_what_is_held_is_not_computed_if_another_was_meanwhile(
    scores, member, queue, metrics, ending, told
):
    house = Admission(10**6, Metrics(), batch_tokens=4)  # five of two tokens fill it
    others = [Encoded([i, i], Seen(str(i).encode(), 2, 0, None)) for i in range(5)]

    def enter(tokens):
        return house.admit(CALLER, tokens, asyncio.get_running_loop().time() + 60)

    tasks = await started(
        *(scores.of([member], [[one]], [[None]], CALLER, enter) for one in [*others, A, A])
    )
    assert len(queue.works) == 5
    settle(queue.works[:1], scores=[0.1])
    await started()
    assert [work.asked.ids for work in queue.works[5:]] == [A.ids]
    settle(queue.works[5:], **ending)
    await asyncio.wait(tasks[5:])
    [[outcome]] = tasks[6].result()
    assert (outcome.score if isinstance(outcome, Scored) else outcome.type) == told
    settle(queue.works[1:5], scores=[0.1] * 4)
    await asyncio.gather(*tasks)
    assert len(queue.works) == 6
    missed = {"tier": "l1", "result": "miss"}
    assert metrics.registry.get_sample_value("plaudit_cache_lookups_total", missed) == len(tasks)
