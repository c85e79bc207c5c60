"""Admission: one count of tokens in the house bounds the work; callers beyond it are held."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.metrics import Metrics
from service.problems import Failure


class Admission:
    """Holds a request until its tokens fit, within the caller's deadline."""

    def __init__(self, max_tokens: int, metrics: Metrics):
        self._max, self._used = max_tokens, 0
        self._changed = asyncio.Condition()
        self._metrics = metrics

    @asynccontextmanager
    async def admit(self, tokens: int, patience_seconds: float) -> AsyncIterator[None]:
        """Hold ``tokens`` while the body runs. Failure "overloaded" when patience runs out.

        A request larger than the whole budget enters when the house is empty.
        """
        try:
            async with asyncio.timeout(patience_seconds), self._changed:
                await self._changed.wait_for(
                    lambda: self._used == 0 or self._used + tokens <= self._max
                )
                self._move(tokens)
        except TimeoutError:
            self._metrics.admission_rejections.labels("queue-full").inc()
            raise Failure(
                "overloaded",
                f"{self._used} tokens are queued, {self._max} is the limit",
                retry_after_seconds=math.ceil(min(patience_seconds, 5.0)),
            ) from None
        try:
            yield
        finally:
            async with self._changed:
                self._move(-tokens)
                self._changed.notify_all()

    def _move(self, tokens: int) -> None:
        self._used += tokens
        self._metrics.queue_tokens.set(self._used)
