"""Callers beyond the budget are held within their deadline, then told to come again."""

import asyncio

import pytest

from plaudit.wire import Item
from service.admission import CAUTION, Admission
from service.fair_queue import Caller
from service.items import Cut, about_tokens, left_of
from service.problems import Failure


@pytest.fixture
def admission(metrics):
    return Admission(10, metrics)


def soon(seconds: float = 0.01) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_no_room_until_the_deadline_is_overloaded(admission, metrics):
    async with admission.admit(Caller(), 10, soon(60)):
        with pytest.raises(Failure) as caught:
            async with admission.admit(Caller(), 1, soon()):
                pytest.fail("there was no room")
    assert (caught.value.kind, caught.value.status) == ("overloaded", 503)
    assert caught.value.retry_after_seconds
    labels = {"reason": "queue-full"}
    value = metrics.registry.get_sample_value
    assert value("plaudit_admission_rejections_total", labels) == 1
    assert value("plaudit_queue_tokens") == 0


async def test_what_is_admitted_and_late_is_past_its_deadline(admission):
    with pytest.raises(Failure) as caught:
        async with admission.admit(Caller(), 1, soon()):
            await asyncio.Event().wait()
    assert (caught.value.kind, caught.value.status) == ("deadline", 504)
    async with admission.admit(Caller(), 10, soon(60)):  # its tokens are free again
        pass


async def test_a_held_caller_enters_when_there_is_room(admission, metrics):
    leave = asyncio.Event()

    async def first():
        async with admission.admit(Caller(), 10, soon(60)):
            await leave.wait()

    async def second():
        async with admission.admit(Caller(), 5, soon(60)):
            return leave.is_set()

    running = asyncio.create_task(first())
    await asyncio.sleep(0)
    held = asyncio.create_task(second())
    await asyncio.sleep(0)
    assert not held.done()
    assert metrics.registry.get_sample_value("plaudit_queue_oldest_age_seconds") > 0
    leave.set()
    assert await held
    assert metrics.registry.get_sample_value("plaudit_queue_oldest_age_seconds") == 0
    await running


async def test_more_than_the_budget_enters_an_empty_house(admission):
    async with admission.admit(Caller(), 1000, soon(60)):
        pass


async def test_one_that_has_just_hung_up_may_be_whom_the_line_has_no_room_for(metrics):
    house = Admission(1, metrics)  # holds 1024 of the smallest
    never = asyncio.Event()

    async def request(tokens, client):
        async with house.admit(Caller("train", client), tokens, soon(900)):
            await never.wait()

    tasks = [asyncio.create_task(request(10_000, "first"))]
    tasks += [asyncio.create_task(request(120_000, "greedy")) for _ in range(2)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(request(100_000, "newest")))
    tasks[-2].cancel()  # the newest comes before it hears of that
    await asyncio.sleep(0)
    assert not tasks[-1].done()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with house.admit(Caller(), 10_000, soon(60)):  # nobody was forgotten in the house
        pass
    assert metrics.registry.get_sample_value("plaudit_queue_tokens") == 0


@pytest.mark.parametrize(
    ("characters", "truncation", "tokens"),
    [(400, "left", 100), (4_000_000, "left", 2048), (400, "error", 100), (4_000_000, "error", 0)],
)
def test_a_text_is_taken_to_be_what_truncation_leaves_of_it(characters, truncation, tokens):
    assert left_of(about_tokens(Item(text="a" * characters)), Cut(truncation), 2048) == tokens


async def test_one_who_allows_too_little_makes_nobody_else_wait(admission):
    """It was let in because the house was empty, not because it would be in time."""
    for _ in range(5):
        with pytest.raises(Failure, match="deadline"):
            async with admission.admit(Caller(), 1, soon(0)):
                await asyncio.Event().wait()
    assert admission._caution == CAUTION
