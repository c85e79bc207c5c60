"""Gathers sequences of concurrent requests into forwards under a token budget.

One loop per joint model owns its queue and settles every sequence exactly once, with a score or an
error.
While a forward runs the queue grows by itself; an idle engine lingers a moment for company.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from plaudit.joint_model import Asked
from service.logs import log
from service.metrics import Metrics

# Budgets of tokens planned together: wide enough for like lengths and shared prefixes to meet,
# narrow enough that nobody at the queue's head waits for more forwards than this.
WINDOW = 4


class EngineFault(RuntimeError):
    """A forward failed; the cause is chained."""


class Forward(Protocol):
    """What the batcher needs of a joint model."""

    def batches(self, asked: Sequence[Asked], max_tokens: int) -> list[list[int]]: ...

    def score(self, asked: Sequence[Asked]) -> np.ndarray[Any, Any]: ...

    def computed_tokens(self, asked: Sequence[Asked]) -> tuple[int, int]: ...


@dataclass(eq=False)
class Work:
    """One sequence on its way to one member's score, wanted by ``waiters`` callers."""

    asked: Asked
    done: asyncio.Future[float]
    waiters: int = 1
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """Scores single sequences in batches. ``thread`` is the engine's, shared by its models."""

    def __init__(
        self,
        forward: Forward,
        thread: ThreadPoolExecutor,
        metrics: Metrics,
        max_batch_tokens: int,
        linger_seconds: float,
    ):
        self._forward, self._thread, self._metrics = forward, thread, metrics
        self._max_tokens, self._linger = max_batch_tokens, linger_seconds
        self._queue: deque[Work] = deque()
        self._arrived = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def submit(self, asked: Asked) -> Work:
        """Queue a sequence. Its ``done`` is settled with a score or EngineFault."""
        work = Work(asked, asyncio.get_running_loop().create_future())
        self._queue.append(work)
        self._metrics.queue_items.inc()
        self._arrived.set()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        return work

    async def close(self) -> None:
        """Stop the loop; sequences still queued get an EngineFault."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        settle(self._queue, error=EngineFault("the server is stopping"))
        self._queue.clear()

    async def _run(self) -> None:
        while True:
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(self._linger)
            window = self._take()
            self._metrics.queue_oldest.set(time.perf_counter() - window[0].since)
            try:
                plan = self._forward.batches([work.asked for work in window], self._max_tokens)
                for batch in plan:
                    await self._compute(still_wanted([window[i] for i in batch]))
            finally:
                # Nothing is left here unless the loop is cancelled or fails outside a forward.
                settle(window, error=EngineFault("the server is stopping"))

    def _take(self) -> list[Work]:
        """The queue's head, up to WINDOW budgets of tokens."""
        window: list[Work] = []
        tokens = 0
        while self._queue and (not window or tokens < WINDOW * self._max_tokens):
            work = self._queue.popleft()
            self._metrics.queue_items.dec()
            window.append(work)
            tokens += len(work.asked.ids)
        return window

    async def _compute(self, batch: list[Work]) -> None:
        if not batch:
            return
        now = time.perf_counter()
        for work in batch:
            self._metrics.stage_seconds.labels("queue").observe(now - work.since)
        asked = [work.asked for work in batch]
        loop = asyncio.get_running_loop()
        try:
            with self._metrics.stage("compute"):
                scores, sizes = await loop.run_in_executor(self._thread, self._score, asked)
            if len(scores) != len(batch):
                raise ValueError(f"{len(scores)} scores for {len(batch)} sequences")
        except Exception as error:  # noqa: BLE001  the one place where an engine's failure ends
            log.exception("engine fault")
            fault = EngineFault(f"{type(error).__name__} in a batch of {len(batch)}")
            fault.__cause__ = error
            settle(batch, error=fault)
        else:
            settle(batch, scores=scores)
            self._count(asked, *sizes)

    def _score(self, asked: Sequence[Asked]) -> tuple[np.ndarray[Any, Any], tuple[int, int]]:
        """Scores and token counts together: counting packs, which would hold the event loop."""
        return self._forward.score(asked), self._forward.computed_tokens(asked)

    def _count(self, asked: Sequence[Asked], computed: int, padded: int) -> None:
        metrics = self._metrics
        real = sum(len(one.ids) for one in asked)
        metrics.batch_items.observe(len(asked))
        metrics.batch_tokens.observe(computed + padded)
        metrics.batch_fill.observe((computed + padded) / self._max_tokens)
        metrics.padding_waste.observe(padded / (computed + padded))
        for kind, count in (("real", real), ("computed", computed), ("padded", padded)):
            metrics.tokens.labels(kind).inc(count)


def still_wanted(works: Sequence[Work]) -> list[Work]:
    """The works that somebody waits for; the others are cancelled."""
    for work in works:
        if work.waiters == 0:
            work.done.cancel()
    return [work for work in works if work.waiters]


def settle(
    works: Sequence[Work] | deque[Work],
    scores: np.ndarray[Any, Any] | None = None,
    error: EngineFault | None = None,
) -> None:
    """Give each its score, or all the error."""
    for i, work in enumerate(works):
        if work.done.done():
            continue
        if scores is None:
            assert error is not None
            work.done.set_exception(error)
            work.done.exception()  # marked as seen: a caller that left must not leave a warning
        else:
            work.done.set_result(float(scores[i]))
