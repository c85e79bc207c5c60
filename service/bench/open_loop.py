"""Requests at the times that were planned, and what became of each.

The next request never waits for an answer to the last one. A latency counts from the intended time:
a server that stalls delays what should have been sent meanwhile, and a loop that waits for answers
would not even ask ("coordinated omission").
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from plaudit.client.retry import Clock

OK = "ok"


@dataclass(frozen=True, slots=True)
class Answer:
    """``outcome``: OK, or the type of the problem; ``status`` 0 where there was no answer. Items
    without a reward are ``failed``; ``tokens`` and ``cached`` as in the answer's usage. ``said``:
    what the problem says, and what mends it."""

    outcome: str
    status: int = 200
    items: int = 0
    failed: int = 0
    tokens: int = 0
    cached: int = 0
    said: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds since the start of a run: when a request was due, when the generator came to it, when
    it had a connection, and when the last byte of its answer was there."""

    intended: float
    dispatched: float
    sent: float
    done: float
    answer: Answer

    @property
    def latency(self) -> float:
        return self.done - self.intended

    @property
    def lag(self) -> float:
        """The generator's own delay."""
        return self.dispatched - self.intended


Send = Callable[[int], Awaitable[Answer]]


async def drive(
    offsets: Sequence[float], send: Send, most_in_flight: int, clock: Clock
) -> list[Sample]:
    """Send request ``n`` at ``offsets[n]`` and wait for all answers; samples in that order.

    A request beyond ``most_in_flight`` waits for a connection, and its latency counts the wait.
    """
    began = clock.now()
    room = asyncio.Semaphore(most_in_flight)

    async def one(number: int, intended: float) -> Sample:
        dispatched = clock.now() - began
        async with room:
            sent = clock.now() - began
            answer = await send(number)
        return Sample(intended, dispatched, sent, clock.now() - began, answer)

    async with asyncio.TaskGroup() as group:
        tasks = []
        for number, intended in enumerate(offsets):
            early = intended - (clock.now() - began)
            if early > 0:
                await clock.sleep(early)
            tasks.append(group.create_task(one(number, intended)))
    return [task.result() for task in tasks]
