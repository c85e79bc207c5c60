"""Admission: one count of tokens in the house bounds the work; callers beyond it are held."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.metrics import Metrics
from service.problems import Failure

RETRY_AFTER_SECONDS = 5


@asynccontextmanager
async def within(deadline: float, where: str, metrics: Metrics) -> AsyncIterator[None]:
    """Failure "deadline" if the body is not done by then, in the loop's time."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        metrics.requests.deadline_expired.labels(where).inc()
        raise Failure("deadline", f"the deadline passed during {where}") from None


class Admission:
    """Holds a request until its tokens fit, within the caller's deadline."""

    def __init__(self, max_tokens: int, metrics: Metrics):
        self._max, self._used = max_tokens, 0
        self._changed = asyncio.Condition()
        self._metrics = metrics
        self._held: dict[object, float] = {}  # since when, the oldest first
        metrics.batches.watch_queue(self.oldest_age)

    def oldest_age(self) -> float:
        """Seconds that the request has waited that is held longest; 0 when none is."""
        since = next(iter(self._held.values()), None)
        return 0.0 if since is None else time.perf_counter() - since

    @asynccontextmanager
    async def admit(self, tokens: int, deadline: float) -> AsyncIterator[None]:
        """Hold ``tokens`` while the body runs, which ends at ``deadline`` in the loop's time.

        Failure "overloaded" if there was no room by then, "deadline" if the body was not done. A
        request larger than the whole budget enters when the house is empty.
        """
        try:
            with self._metrics.stage("admit"):
                await self._enter(tokens, deadline)
        except TimeoutError:
            self._metrics.requests.admission_rejections.labels("queue-full").inc()
            raise Failure(
                "overloaded",
                f"{self._used} tokens are queued, {self._max} is the limit",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from None
        try:
            async with within(deadline, "compute", self._metrics):
                yield
        finally:
            async with self._changed:
                self._move(-tokens)
                self._changed.notify_all()

    async def _enter(self, tokens: int, deadline: float) -> None:
        me = object()
        self._held[me] = time.perf_counter()
        try:
            async with asyncio.timeout_at(deadline), self._changed:
                await self._changed.wait_for(
                    lambda: self._used == 0 or self._used + tokens <= self._max
                )
                self._move(tokens)
        finally:
            del self._held[me]

    def _move(self, tokens: int) -> None:
        self._used += tokens
        self._metrics.batches.queue_tokens.set(self._used)
