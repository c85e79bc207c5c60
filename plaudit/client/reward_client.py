"""The client for threads: rewards in request order, or an exception.

What to send, when to send it again and what an answer means are plain functions of the modules
imported here. This class only waits, and ``AsyncRewardClient`` does so in its own way.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Self

import httpx2

from plaudit.client.answers import Answer, decode
from plaudit.client.asking import Asking
from plaudit.client.batches import GroupLike, ItemLike
from plaudit.client.connections import Connections
from plaudit.client.errors import PlauditError, ProblemError, Unreachable
from plaudit.client.requests import Call, Options, lost
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


@dataclass(frozen=True)
class Course:
    """What the requests of one call share; ``over`` once the call has its answer or its error."""

    http: httpx2.Client
    deadline: Deadline
    retry: Retry
    over: threading.Event = field(default_factory=threading.Event)


class RewardClient(Asking):
    """A client for threads; one object may serve several.

    ``timeout_seconds`` is for a whole call, all its batches and retries included. A list of more
    than ``batch_items`` items, or about ``batch_tokens`` tokens, goes out as several requests,
    ``concurrency`` of them at a time. ``max_retries`` are for each request, after a lost connection
    or a status 408, 425, 429, 502, 503 or 504; with ``retry_faults`` also after an answer in which
    the engine failed on an item, instead of an error of that item. ``model`` and ``revision`` are
    for calls that name none; without a model the service chooses, and with a revision it answers
    for no other.
    ``headers`` is called once a call, for what its requests carry besides. Of several
    ``base_url``s, replicas of one service, each prompt has its own.

    The object may be pickled, and used on both sides of a fork: connections belong to a process.
    """

    def __setstate__(self, state: dict[str, Options]) -> None:
        super().__setstate__(state)
        self._by_process: dict[int, Connections] = {}

    def score(
        self,
        items: Iterable[ItemLike],
        *,
        truncation: Truncation = "error",
        model: str | None = None,
        revision: str | None = None,
        weights: dict[str, float] | None = None,
    ) -> Scores:
        """Score ``(prompt, response)`` pairs, ``wire.Item``s or dicts of the same form.

        An item that cannot be scored has reward None and its error in ``items``; the others are
        not harmed. ``weights``, by objective, are for a bundle, and default to its own. Raises
        ValueError for what is not an item, and PlauditError: DeadlineExceeded, Unreachable,
        ProblemError, RevisionChanged, UnexpectedAnswer.
        """
        plan = self._items(
            items,
            ScoreRequest(model, truncation=truncation, weights=weights, revision=revision),
        )
        return read_scores(self._send_all(plan.calls), plan.batches)

    def score_groups(
        self,
        groups: Iterable[GroupLike],
        *,
        truncation: Truncation = "error",
        model: str | None = None,
        revision: str | None = None,
        weights: dict[str, float] | None = None,
    ) -> Scores:
        """Score ``(prompt, responses)`` pairs: flat rewards, in order. Otherwise as ``score``."""
        plan = self._groups(
            groups,
            ScoreRequest(model, truncation=truncation, weights=weights, revision=revision),
        )
        return read_scores(self._send_all(plan.calls), plan.batches)

    def ensemble_score(
        self,
        items: Iterable[ItemLike],
        *,
        ensemble: str | None = None,
        aggregate: Aggregate | None = None,
        coefficient: float | None = None,
        truncation: Truncation = "error",
        revision: str | None = None,
    ) -> EnsembleScores:
        """Score by all members. Unnamed options are the ensemble's own. Raises as ``score``."""
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
        return read_ensemble(self._send_all(plan.calls), plan.batches)

    def models(self) -> list[ModelInfo]:
        """What the service has loaded. Raises as ``score``."""
        [answer] = self._send_all([self._models()])
        return decode(answer, ModelList).models

    def wait_ready(self, timeout_seconds: float) -> None:
        """Return once the service, each of its replicas, can score.

        Raises DeadlineExceeded, and ProblemError for a refusal that waiting will not mend.
        """
        deadline = self._options.deadline(timeout_seconds)
        with self._connections().held() as http:
            course = Course(http, deadline, self._options.patient())
            for call in self._readiness():
                self._send(call, course)

    def close(self) -> None:
        """Close this process's connections once calls that run have ended; a new call opens new."""
        if connections := self._by_process.pop(os.getpid(), None):
            connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connections(self) -> Connections:
        """Those of this process.

        A child of a fork leaves its parent's alone: another thread may have held their locks.
        """
        pid = os.getpid()
        found = self._by_process.get(pid)
        # Of two threads that open them at once both get the first one's.
        return found or self._by_process.setdefault(pid, Connections(self._options.limits()))

    def _send_all(self, calls: Sequence[Call]) -> list[Answer]:
        """Answers in order; the first failure ends the call.

        Requests that wait for an answer then keep their threads until it comes or the deadline
        does, as nothing wakes them, and a process that exits waits for those.
        """
        deadline, connections = (
            self._options.deadline(self._options.timeout_seconds),
            self._connections(),
        )
        with connections.held() as http:
            course = Course(http, deadline, self._options.retry)
            if len(calls) == 1:
                return [self._send(calls[0], course)]
            threads = ThreadPoolExecutor(min(self._options.concurrency, len(calls)))
            futures = [threads.submit(self._send, call, course) for call in calls]
            for future in futures:
                connections.hold_until_done(future)
            try:
                for future in as_completed(futures):
                    future.result()
                threads.shutdown()
            finally:
                course.over.set()
                threads.shutdown(wait=False, cancel_futures=True)
            return [future.result() for future in futures]

    def _send(self, call: Call, course: Course) -> Answer:
        try:
            return self._until_answered(call, course)
        except PlauditError as error:
            error.request_id = call.request_id
            raise

    def _until_answered(self, call: Call, course: Course) -> Answer:
        attempts = self._attempts(call, course.deadline, course.retry)
        clock = self._options.clock
        while True:
            base_url = attempts.base_url()
            try:
                return self._attempt(course.http, attempts.call, base_url, attempts.deadline)
            except (ProblemError, Unreachable) as error:
                pause = attempts.pause_or_raise(base_url, error, clock.uniform())
                if clock.wait(course.over, pause):
                    raise

    def _attempt(
        self, http: httpx2.Client, call: Call, base_url: str, deadline: Deadline
    ) -> Answer:
        sent = self._options.http_request(call, base_url, deadline.left())
        try:
            response = http.send(sent, stream=True)
            try:
                body = b"".join(_within(response.iter_bytes(), deadline))
            finally:
                response.close()
        except httpx2.RequestError as error:
            raise lost(error, deadline) from error
        self._replicas.wake(base_url)
        return self._options.answer(call, response, body)


def _within(chunks: Iterable[bytes], deadline: Deadline) -> Iterator[bytes]:
    """A socket's timeout starts anew with every read; this does not."""
    for chunk in chunks:
        deadline.left()
        yield chunk
