"""The client for asyncio: as ``RewardClient``, with the waiting done by a loop."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from typing import Self

import httpx2

from plaudit.client.answers import Answer, decode
from plaudit.client.asking import Asking
from plaudit.client.batches import GroupLike, ItemLike
from plaudit.client.errors import PlauditError, ProblemError, Unreachable
from plaudit.client.requests import Call, lost
from plaudit.client.retry import Deadline, Retry
from plaudit.client.scores import EnsembleScores, Scores, read_ensemble, read_scores
from plaudit.wire import (
    Aggregate,
    EnsembleRequest,
    ModelInfo,
    ModelList,
    ScoreRequest,
    Truncation,
)


class AsyncRewardClient(Asking):
    """As ``RewardClient``, for asyncio; one object serves one loop at a time."""

    _pool: tuple[int, asyncio.AbstractEventLoop, httpx2.AsyncClient] | None = None

    async def score(
        self,
        items: Iterable[ItemLike],
        *,
        truncation: Truncation = "error",
        model: str | None = None,
        revision: str | None = None,
        weights: dict[str, float] | None = None,
    ) -> Scores:
        """As ``RewardClient.score``."""
        plan = self._items(
            items,
            ScoreRequest(model, truncation=truncation, weights=weights, revision=revision),
        )
        return read_scores(await self._send_all(plan.calls), plan.batches)

    async def score_groups(
        self,
        groups: Iterable[GroupLike],
        *,
        truncation: Truncation = "error",
        model: str | None = None,
        revision: str | None = None,
        weights: dict[str, float] | None = None,
    ) -> Scores:
        """As ``RewardClient.score_groups``."""
        plan = self._groups(
            groups,
            ScoreRequest(model, truncation=truncation, weights=weights, revision=revision),
        )
        return read_scores(await self._send_all(plan.calls), plan.batches)

    async def ensemble_score(
        self,
        items: Iterable[ItemLike],
        *,
        ensemble: str | None = None,
        aggregate: Aggregate | None = None,
        coefficient: float | None = None,
        truncation: Truncation = "error",
        revision: str | None = None,
    ) -> EnsembleScores:
        """As ``RewardClient.ensemble_score``."""
        plan = self._items(
            items,
            EnsembleRequest(
                ensemble=ensemble,
                aggregate=aggregate,
                coefficient=coefficient,
                truncation=truncation,
                revision=revision,
            ),
        )
        return read_ensemble(await self._send_all(plan.calls), plan.batches)

    async def models(self) -> list[ModelInfo]:
        """As ``RewardClient.models``."""
        [answer] = await self._send_all([self._models()])
        return decode(answer, ModelList).models

    async def wait_ready(self, timeout_seconds: float) -> None:
        """As ``RewardClient.wait_ready``."""
        deadline = self._options.deadline(timeout_seconds)
        for call in self._readiness():
            await self._send(call, deadline, self._options.patient())

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
        try:
            return await self._until_answered(call, deadline, retry)
        except PlauditError as error:
            error.request_id = call.request_id
            raise

    async def _until_answered(self, call: Call, deadline: Deadline, retry: Retry) -> Answer:
        attempts = self._attempts(call, deadline, retry)
        clock = self._options.clock
        while True:
            base_url = attempts.base_url()
            try:
                return await self._attempt(attempts.call, base_url, attempts.deadline)
            except (ProblemError, Unreachable) as error:
                pause = attempts.pause_or_raise(base_url, error, clock.uniform())
            await clock.sleep(pause)

    async def _attempt(self, call: Call, base_url: str, deadline: Deadline) -> Answer:
        left = deadline.left()
        try:
            async with asyncio.timeout(left):
                sent = self._options.http_request(call, base_url, left)
                response = await self._http().send(sent)
        except TimeoutError as error:
            raise deadline.exceeded() from error
        except httpx2.RequestError as error:
            raise lost(error, deadline) from error
        self._replicas.wake(base_url)
        return self._options.answer(call, response, response.content)
