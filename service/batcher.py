"""Gathers sequences of concurrent requests into forwards under a token budget.

One loop owns the queue of all models that share a thread, so that turns and priorities count across
them, and settles every sequence exactly once, with a score or an error. While a forward runs the
queue grows by itself; an idle engine lingers a moment for company.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, TypeVar

from plaudit.joint_model import Asked, Computed
from service.fair_queue import Caller, FairQueue
from service.faults import is_device_lost, is_out_of_memory, let_go
from service.logs import log
from service.metrics import Metrics
from service.token_budget import TokenBudget
from service.work import STOPPING, EngineFault, FaultKind, Work, fault_of, settle

T = TypeVar("T")
# Budgets of tokens planned together: wide enough for like lengths and shared prefixes to meet,
# narrow enough that nobody at the queue's head waits for more forwards than this.
WINDOW = 4
# A caller's turn is this part of a budget: one item behind a large request is in the next forward.
TURNS = 2
LINGER_STEP = 0.0005
# Failures that a failed batch may cost besides, for each doubling of its size, and one more. One
# sequence is found by one for each doubling, so that two are found wherever they stand.
FAILURES = 2
TOO_MANY = "too many sequences failed in one batch"


class Forward(Protocol):
    """What the batcher needs of a joint model."""

    def batches(self, asked: Sequence[Asked], max_tokens: int) -> list[list[int]]: ...

    def compute(self, asked: Sequence[Asked]) -> Computed: ...

    def forget(self) -> None:
        """Free what is only kept to save time."""


@dataclass(eq=False, kw_only=True)
class Queued(Work):
    """Work of one of the models that share the thread."""

    model: Forward


class Batcher:
    """Scores single sequences in batches. ``thread`` is the engine's, shared by its models."""

    def __init__(
        self,
        thread: ThreadPoolExecutor,
        metrics: Metrics,
        max_batch_tokens: int,
        linger_seconds: float,
    ):
        self._thread, self._metrics = thread, metrics
        self._budget, self._linger = TokenBudget(max_batch_tokens), linger_seconds
        self._busy_since: float | None = None
        self._lost: str | None = None
        self._queue: FairQueue[Queued] = FairQueue(max(1, max_batch_tokens // TURNS))
        metrics.batches.watch_queue(self.oldest_age)
        metrics.batches.watch_budget(self.budget)
        self._arrivals = 0
        self._arrived = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def submit(self, model: Forward, asked: Asked, caller: Caller) -> Work:
        """Queue a sequence. Its ``done`` is settled with a score or EngineFault."""
        done = asyncio.get_running_loop().create_future()
        work = Queued(asked, caller, done, model=model)
        self._queue.push(work)
        self._metrics.batches.queue_items.inc()
        self._arrivals += 1
        self._arrived.set()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        return work

    def oldest_age(self) -> float:
        """Seconds that the oldest queued sequence has waited; 0 when none waits."""
        oldest = min((work.since for work in self._queue.heads()), default=None)
        return 0.0 if oldest is None else time.perf_counter() - oldest

    def budget(self) -> int:
        """Tokens that one forward may have now."""
        return self._budget.tokens

    def hopeless(self, hang_seconds: float) -> str | None:
        """Why nothing will be computed any more in this process, or None."""
        since = self._busy_since
        if since is not None and (age := time.perf_counter() - since) > hang_seconds:
            return f"a forward has not ended for {age:.0f} s"
        return self._lost

    async def close(self) -> None:
        """Stop the loop; sequences still queued get an EngineFault."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        settle(self._queue.drain(), error=EngineFault(STOPPING))
        self._metrics.batches.leave_queue(self.oldest_age)
        self._metrics.batches.leave_budget(self.budget)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            await self._gather()
            while len(self._queue):
                await self._next_window()
            self._arrived.clear()

    async def _next_window(self) -> None:
        taken = self._queue.take(WINDOW * self._budget.tokens)
        self._metrics.batches.queue_items.dec(len(taken))
        window = still_wanted(taken)
        try:
            await self._work_through(window)
        finally:
            # Nothing is left here unless the loop is cancelled.
            settle(window, error=EngineFault(STOPPING))

    async def _gather(self) -> None:
        """Linger while company comes, at most as long as allowed: a lone caller waits one step."""
        now = asyncio.get_running_loop().time
        enough = now() + self._linger
        seen = None
        while seen != self._arrivals and (left := enough - now()) > 0:
            seen = self._arrivals
            await asyncio.sleep(min(LINGER_STEP, left))

    async def _work_through(self, window: list[Queued]) -> None:
        """Compute a window batch by batch, the earliest turn first. When more work arrives, what is
        not begun goes back to take its turn beside it; and when forwards must be smaller."""
        arrivals, budget = self._arrivals, self._budget.tokens
        plan = await self._plan(window)
        for number, batch in enumerate(plan, start=1):
            await self._compute(still_wanted([window[i] for i in batch]))
            rest = sorted(i for later in plan[number:] for i in later)
            changed = arrivals != self._arrivals or self._budget.tokens < budget
            if rest and changed:
                waiting = [window[i] for i in rest]
                self._queue.put_back(waiting)
                self._metrics.batches.queue_items.inc(len(waiting))
                for i in reversed(rest):
                    del window[i]
                return

    async def _plan(self, window: Sequence[Queued]) -> list[list[int]]:
        """Batches of positions in the window, each of one model, the earliest turn first."""
        places: dict[Forward, list[int]] = {}
        for place, work in enumerate(window):
            places.setdefault(work.model, []).append(place)
        plans = [await self._plan_of(model, own, window) for model, own in places.items()]
        return sorted(chain.from_iterable(plans), key=min)

    async def _plan_of(
        self, model: Forward, places: Sequence[int], window: Sequence[Queued]
    ) -> list[list[int]]:
        """Batches of a model's places. Planned in the engine's thread: it takes a while."""
        works, budget = [window[i] for i in places], self._budget.tokens
        asked = [work.asked for work in works]
        try:
            plan = await self._busily(lambda: model.batches(asked, budget))
        except Exception as error:  # noqa: BLE001  as in _compute
            settle(works, error=fault_of(error, len(works)))
            return []
        return [[places[i] for i in batch] for batch in plan]

    async def _compute(self, batch: list[Queued]) -> None:
        """Settle a batch. Where its forward fails, only those fail who do so by themselves."""
        if not batch:
            return
        self._begin(batch)
        error = await self._attempt(batch)
        if error is not None:
            log.warning("a forward of %d failed", len(batch), exc_info=error)
            await self._isolate(batch, error)

    async def _isolate(self, batch: list[Queued], error: Exception) -> None:
        """Try the parts of what fails until it stands alone, and what stood alone from the
        beginning once more: no sequence is given up after one failure, which may pass. Failures are
        bounded: an engine that fails at everything is not asked for each sequence."""
        left = 1 + FAILURES * (len(batch) - 1).bit_length()
        again = len(batch) == 1 and self._lost is None and not is_out_of_memory(error)
        parts = deque([batch] if again else self._parts(batch, error))
        while parts and left:
            part = parts.popleft()
            failed = await self._attempt(part)
            if failed is not None:
                error, left = failed, left - 1
                parts.extendleft(reversed(self._parts(part, error)))
        kind: FaultKind = "capacity" if is_out_of_memory(error) else "engine-fault"
        settle([work for part in parts for work in part], error=EngineFault(TOO_MANY, kind))

    def _parts(self, failed: list[Queued], error: Exception) -> list[list[Queued]]:
        """What of a failed forward is tried again: nothing where a sequence stood alone, which is
        settled. After a want of memory no part is larger than forwards are from now on."""
        if len(failed) == 1:
            settle(failed, error=fault_of(error, 1))
            return []
        if not is_out_of_memory(error):
            return halves(failed)
        self._budget.shrink(sum(work.tokens for work in failed))
        return [part for half in halves(failed) for part in portions(half, self._budget.tokens)]

    async def _attempt(self, batch: Sequence[Queued]) -> Exception | None:
        """One forward, which settles the batch; else what it failed with."""
        model, asked = batch[0].model, [work.asked for work in batch]
        own = all(work.caller.own for work in batch)  # no stage of any request
        try:
            with nullcontext() if own else self._metrics.timed("compute"):
                found = await self._busily(lambda: model.compute(asked))
            if len(found.scores) != len(batch):
                raise ValueError(f"{len(found.scores)} scores for {len(batch)} sequences")
        except Exception as error:  # noqa: BLE001  an engine's failure ends here
            await self._recover(error, model)
            return error
        settle(batch, scores=found.scores)
        self._count(asked, found.tokens, found.padding)
        return None

    async def _recover(self, error: Exception, model: Forward) -> None:
        """Do for the next forward what can be done after such a failure."""
        if is_out_of_memory(error):
            let_go(error)
            try:
                await self._busily(model.forget)
            except Exception as worse:  # noqa: BLE001  a lost device may first look like no memory
                log.warning("memory was not given back", exc_info=worse)
                error = worse
        if is_device_lost(error):
            self._lost = f"the device is lost: {type(error).__name__}"

    def _begin(self, batch: Sequence[Work]) -> None:
        now, requests = time.perf_counter(), self._metrics.requests
        for work in batch:
            work.begin(now)
            if work.caller.client is not None:
                requests.stage_seconds["queue"].observe(now - work.since)
                requests.client_wait_seconds[work.caller.client,].inc(now - work.since)

    async def _busily(self, work: Callable[[], T]) -> T:
        """The result of ``work`` in the engine's thread, which is counted as busy meanwhile."""

        def counted() -> T:
            self._busy_since = time.perf_counter()
            try:
                with self._metrics.saturation.busy:
                    return work()
            finally:
                self._busy_since = None

        return await asyncio.get_running_loop().run_in_executor(self._thread, counted)

    def _count(self, asked: Sequence[Asked], computed: int, padded: int) -> None:
        metrics = self._metrics
        metrics.computed(sum(len(one.ids) for one in asked))
        metrics.batches.items.observe(len(asked))
        metrics.batches.batch_tokens.observe(computed + padded)
        metrics.batches.fill.observe((computed + padded) / self._budget.most)
        metrics.batches.padding_waste.observe(padded / (computed + padded))
        metrics.batches.tokens.labels("computed").inc(computed)
        metrics.batches.tokens.labels("padded").inc(padded)


def still_wanted(works: Sequence[Queued]) -> list[Queued]:
    """The works that somebody waits for."""
    return [work for work in works if not work.done.cancelled()]


def halves(batch: list[Queued]) -> list[list[Queued]]:
    """The batch in two: the service's own work and the callers', or else in the middle. What a
    caller sends must not speak for the engine's health."""
    own = [work for work in batch if work.caller.own]
    if 0 < len(own) < len(batch):
        return [own, [work for work in batch if not work.caller.own]]
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]]


def portions(batch: list[Queued], tokens: int) -> list[list[Queued]]:
    """The batch in halves of halves, until each has at most so many tokens or stands alone."""
    if len(batch) == 1 or sum(work.tokens for work in batch) <= tokens:
        return [batch]
    return [part for half in halves(batch) for part in portions(half, tokens)]
