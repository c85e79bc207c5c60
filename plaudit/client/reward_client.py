"""The client of the service, sync and async: rewards in request order, or an exception.

What to send, when to send it again and what an answer means are plain functions of the modules
imported here. The two classes only wait, each in its own way.
"""

import asyncio
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Self

import httpx2

from plaudit.client.answers import Answer, decode
from plaudit.client.batches import GroupLike, ItemLike, split_groups, split_items
from plaudit.client.errors import ProblemError, Unreachable
from plaudit.client.requests import MODELS, READY, Call, Options, lost
from plaudit.client.retry import REAL_CLOCK, Clock, Deadline, Retry
from plaudit.client.scores import EnsembleScores, Scores, read_ensemble, read_scores
from plaudit.wire import (
    Aggregate,
    EnsembleRequest,
    ModelInfo,
    ModelList,
    ScoreRequest,
    Truncation,
)


class _Client:
    """The options, which are all that two processes may share."""

    def __init__(  # noqa: PLR0913 - one flat signature is what callers look up
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        model: str | None = None,
        timeout_seconds: float = 120.0,
        max_retries: int = Retry.max_retries,
        batch_items: int = 256,
        concurrency: int = 8,
        _clock: Clock = REAL_CLOCK,
    ) -> None:
        self._options = Options(
            base_url=base_url,
            api_key=api_key,
            model=model,
            timeout_seconds=timeout_seconds,
            batch_items=batch_items,
            concurrency=concurrency,
            retry=Retry(max_retries),
            clock=_clock,
        )

    def __getstate__(self) -> dict[str, object]:
        return {"_options": self._options}


class RewardClient(_Client):
    """A client for threads; one object may serve several.

    ``timeout_seconds`` is for a whole call, all its batches and retries included. A list of more
    than ``batch_items`` goes out as several requests, ``concurrency`` of them at a time.
    ``max_retries`` are for each request, after a lost connection or a status 408, 429, 502, 503
    or 504. ``model`` is for calls that name none; without it the service chooses.

    The object may be pickled, and used on both sides of a fork: connections belong to a process.
    """

    _pool: tuple[int, httpx2.Client] | None = None

    def score(
        self,
        items: Iterable[ItemLike],
        *,
        truncation: Truncation = "error",
        model: str | None = None,
        weights: dict[str, float] | None = None,
    ) -> Scores:
        """Score ``(prompt, response)`` pairs, ``wire.Item``s or dicts of the same form.

        An item that cannot be scored has reward None and its error in ``items``; the others are
        not harmed. ``weights``, by objective, are for a bundle, and default to its own. Raises
        ValueError for what is not an item, and PlauditError: DeadlineExceeded, Unreachable,
        ProblemError, RevisionChanged, UnexpectedAnswer.
        """
        batches = split_items(items, self._options.batch_items)
        template = ScoreRequest(model, truncation=truncation, weights=weights)
        calls = self._options.score_calls(template, batches)
        return read_scores(self._send_all(calls), batches)

    def score_groups(
        self,
        groups: Iterable[GroupLike],
        *,
        truncation: Truncation = "error",
        model: str | None = None,
        weights: dict[str, float] | None = None,
    ) -> Scores:
        """Score ``(prompt, responses)`` pairs: flat rewards, in order. Otherwise as ``score``."""
        batches = split_groups(groups, self._options.batch_items)
        template = ScoreRequest(model, truncation=truncation, weights=weights)
        calls = self._options.score_calls(template, batches)
        return read_scores(self._send_all(calls), batches)

    def ensemble_score(
        self,
        items: Iterable[ItemLike],
        *,
        ensemble: str | None = None,
        aggregate: Aggregate | None = None,
        coefficient: float | None = None,
        truncation: Truncation = "error",
    ) -> EnsembleScores:
        """Score by all members. Unnamed options are the ensemble's own. Raises as ``score``."""
        batches = split_items(items, self._options.batch_items)
        template = EnsembleRequest(
            ensemble=ensemble, aggregate=aggregate, coefficient=coefficient, truncation=truncation
        )
        calls = self._options.ensemble_calls(template, batches)
        return read_ensemble(self._send_all(calls), batches)

    def models(self) -> list[ModelInfo]:
        """What the service has loaded. Raises as ``score``."""
        [answer] = self._send_all([MODELS])
        return decode(answer, ModelList).models

    def wait_ready(self, timeout_seconds: float) -> None:
        """Return once the service can score.

        Raises DeadlineExceeded, and ProblemError for a refusal that waiting will not mend.
        """
        deadline = self._options.deadline(timeout_seconds)
        self._send(READY, deadline, self._options.patient(), threading.Event())

    def close(self) -> None:
        """Close this process's connections; another call opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None and pool[0] == os.getpid():
            pool[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _http(self) -> httpx2.Client:
        # A parent's pool is dropped, not closed: another thread may have held its locks in fork.
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = (os.getpid(), httpx2.Client(limits=self._options.limits()))
        return self._pool[1]

    def _send_all(self, calls: Sequence[Call]) -> list[Answer]:
        """Answers in order; the first failure ends the call. Threads live no longer than it."""
        deadline = self._options.deadline(self._options.timeout_seconds)
        retry, stop = self._options.retry, threading.Event()
        self._http()
        if len(calls) == 1:
            return [self._send(calls[0], deadline, retry, stop)]
        threads = ThreadPoolExecutor(min(self._options.concurrency, len(calls)))
        futures = [threads.submit(self._send, call, deadline, retry, stop) for call in calls]
        try:
            for future in as_completed(futures):
                future.result()
            threads.shutdown()
        finally:
            stop.set()
            threads.shutdown(wait=False, cancel_futures=True)
        return [future.result() for future in futures]

    def _send(self, call: Call, deadline: Deadline, retry: Retry, stop: threading.Event) -> Answer:
        retries = 0
        clock = self._options.clock
        while True:
            try:
                return self._attempt(call, deadline)
            except (ProblemError, Unreachable) as error:
                pause = retry.pause_or_raise(retries, error, deadline, clock.uniform())
                if clock.wait(stop, pause):
                    raise
            retries += 1

    def _attempt(self, call: Call, deadline: Deadline) -> Answer:
        sent = self._options.http_request(call, deadline.left())
        try:
            response = self._http().send(sent, stream=True)
            try:
                body = b"".join(_within(response.iter_bytes(), deadline))
            finally:
                response.close()
        except httpx2.RequestError as error:
            raise lost(error, deadline) from error
        return self._options.answer(response, body)


class AsyncRewardClient(_Client):
    """As ``RewardClient``, for asyncio; one object serves one loop at a time."""

    _pool: tuple[int, asyncio.AbstractEventLoop, httpx2.AsyncClient] | None = None

    async def score(
        self,
        items: Iterable[ItemLike],
        *,
        truncation: Truncation = "error",
        model: str | None = None,
        weights: dict[str, float] | None = None,
    ) -> Scores:
        """As ``RewardClient.score``."""
        batches = split_items(items, self._options.batch_items)
        template = ScoreRequest(model, truncation=truncation, weights=weights)
        calls = self._options.score_calls(template, batches)
        return read_scores(await self._send_all(calls), batches)

    async def score_groups(
        self,
        groups: Iterable[GroupLike],
        *,
        truncation: Truncation = "error",
        model: str | None = None,
        weights: dict[str, float] | None = None,
    ) -> Scores:
        """As ``RewardClient.score_groups``."""
        batches = split_groups(groups, self._options.batch_items)
        template = ScoreRequest(model, truncation=truncation, weights=weights)
        calls = self._options.score_calls(template, batches)
        return read_scores(await self._send_all(calls), batches)

    async def ensemble_score(
        self,
        items: Iterable[ItemLike],
        *,
        ensemble: str | None = None,
        aggregate: Aggregate | None = None,
        coefficient: float | None = None,
        truncation: Truncation = "error",
    ) -> EnsembleScores:
        """As ``RewardClient.ensemble_score``."""
        batches = split_items(items, self._options.batch_items)
        template = EnsembleRequest(
            ensemble=ensemble, aggregate=aggregate, coefficient=coefficient, truncation=truncation
        )
        calls = self._options.ensemble_calls(template, batches)
        return read_ensemble(await self._send_all(calls), batches)

    async def models(self) -> list[ModelInfo]:
        """As ``RewardClient.models``."""
        [answer] = await self._send_all([MODELS])
        return decode(answer, ModelList).models

    async def wait_ready(self, timeout_seconds: float) -> None:
        """As ``RewardClient.wait_ready``."""
        deadline = self._options.deadline(timeout_seconds)
        await self._send(READY, deadline, self._options.patient())

    async def close(self) -> None:
        """Close the connections of this process and loop; another call opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None and pool[:2] == (os.getpid(), asyncio.get_running_loop()):
            await pool[2].aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _http(self) -> httpx2.AsyncClient:
        owner = (os.getpid(), asyncio.get_running_loop())
        if self._pool is None or self._pool[:2] != owner:
            self._pool = (*owner, httpx2.AsyncClient(limits=self._options.limits()))
        return self._pool[2]

    async def _send_all(self, calls: Sequence[Call]) -> list[Answer]:
        """Answers in order; the first failure cancels the others."""
        deadline = self._options.deadline(self._options.timeout_seconds)
        room = asyncio.Semaphore(self._options.concurrency)

        async def send(call: Call) -> Answer:
            async with room:
                return await self._send(call, deadline, self._options.retry)

        tasks = [asyncio.create_task(send(call)) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, call: Call, deadline: Deadline, retry: Retry) -> Answer:
        retries = 0
        clock = self._options.clock
        while True:
            try:
                return await self._attempt(call, deadline)
            except (ProblemError, Unreachable) as error:
                pause = retry.pause_or_raise(retries, error, deadline, clock.uniform())
            await clock.sleep(pause)
            retries += 1

    async def _attempt(self, call: Call, deadline: Deadline) -> Answer:
        left = deadline.left()
        try:
            async with asyncio.timeout(left):
                response = await self._http().send(self._options.http_request(call, left))
        except TimeoutError as error:
            raise deadline.exceeded() from error
        except httpx2.RequestError as error:
            raise lost(error, deadline) from error
        return self._options.answer(response, response.content)


def _within(chunks: Iterable[bytes], deadline: Deadline) -> Iterator[bytes]:
    """A socket's timeout starts anew with every read; this does not."""
    for chunk in chunks:
        deadline.left()
        yield chunk
