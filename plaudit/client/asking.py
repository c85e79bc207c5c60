"""What both clients share: their options, and what a call of theirs sends. No waiting."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from plaudit.client.attempts import Attempts
from plaudit.client.batches import (
    Batch,
    Budget,
    GroupLike,
    ItemLike,
    fill,
    split_groups,
    split_items,
)
from plaudit.client.prompt_header import prompt_header
from plaudit.client.replicas import Replicas
from plaudit.client.requests import Call, Options
from plaudit.client.retry import REAL_CLOCK, Clock, Deadline, Retry
from plaudit.client.tracing import ExtraHeaders, new_request_id
from plaudit.wire import EnsembleRequest, ScoreRequest


@dataclass(frozen=True)
class Plan:
    """The requests of one call, one for each batch."""

    calls: list[Call]
    batches: list[Batch]


class Asking:
    """See ``RewardClient`` for the options."""

    def __init__(  # noqa: PLR0913 - one flat signature is what callers look up
        self,
        base_url: str | Sequence[str],
        api_key: str | None = None,
        *,
        model: str | None = None,
        revision: str | None = None,
        timeout_seconds: float = 120.0,
        max_retries: int = Retry.max_retries,
        retry_faults: bool = False,
        batch_items: int = 256,
        batch_tokens: int = 65_536,
        concurrency: int = 8,
        headers: ExtraHeaders | None = None,
        _clock: Clock = REAL_CLOCK,
    ) -> None:
        options = Options(
            base_urls=(base_url,) if isinstance(base_url, str) else tuple(base_url),
            api_key=api_key,
            model=model,
            revision=revision,
            timeout_seconds=timeout_seconds,
            budget=Budget(batch_items, batch_tokens),
            concurrency=concurrency,
            headers=headers,
            retry=Retry(max_retries),
            retry_faults=retry_faults,
            clock=_clock,
        )
        self.__setstate__({"_options": options})

    def __getstate__(self) -> dict[str, Options]:
        return {"_options": self._options}

    def __setstate__(self, state: dict[str, Options]) -> None:
        """The options are all that two processes may share."""
        self._options = state["_options"]
        self._replicas = Replicas(self._options.base_urls, self._options.clock.now)

    def _items(self, items: Iterable[ItemLike], template: ScoreRequest | EnsembleRequest) -> Plan:
        batches = split_items(items, self._options.budget, self._replicas.route)
        return self._plan(batches, template)

    def _groups(
        self, groups: Iterable[GroupLike], template: ScoreRequest | EnsembleRequest
    ) -> Plan:
        batches = split_groups(groups, self._options.budget, self._replicas.route)
        return self._plan(batches, template)

    def _plan(self, batches: list[Batch], template: ScoreRequest | EnsembleRequest) -> Plan:
        path = "/ensemble_score"
        if template.revision is None:
            template = msgspec.structs.replace(template, revision=self._options.revision)
        if isinstance(template, ScoreRequest):
            path = "/score"
            if template.model is None:
                template = msgspec.structs.replace(template, model=self._options.model)
        headers = self._options.caller_headers()
        calls = [
            Call(
                "POST", path, batch.replicas, new_request_id(), body, prompt_header(batch) | headers
            )
            for batch, body in zip(batches, fill(template, batches), strict=True)
        ]
        return Plan(calls, batches)

    def _models(self) -> Call:
        urls = self._options.base_urls
        return Call("GET", "/models", urls, new_request_id(), None, self._options.caller_headers())

    def _readiness(self) -> list[Call]:
        """Of every replica."""
        urls = self._options.base_urls
        return [Call("GET", "/readyz", (url,), new_request_id()) for url in urls]

    def _attempts(self, call: Call, deadline: Deadline, retry: Retry) -> Attempts:
        return Attempts(call, self._replicas, retry, deadline)
