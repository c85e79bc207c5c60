"""Rewards of candidates from a running service: one model, bundle or ensemble, of one revision."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from msgspec import UNSET
from pydantic import BaseModel, ConfigDict, Field, model_validator

from plaudit.client import RewardClient
from plaudit.client.errors import PlauditError
from plaudit.client.scores import EnsembleScores, Scores
from plaudit.integrations.source import PATIENCE
from plaudit.wire import Aggregate, ModelInfo, Truncation
from training.policy.candidates import Candidates
from training.score.served import KEY, ServiceError, choose

# Few at a time, so that a slow service answers each within its own deadline.
IN_REQUEST, AT_A_TIME = 64, 2


class Judge(BaseModel):
    """Who rewards. A key, where it asks for one, is read from ``PLAUDIT_CLIENT_API_KEY``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    url: str = Field(description="of a running plaudit serve, http://…")
    model: str | None = Field(None, description="model, bundle or ensemble; null: its only one")
    revision: str | None = Field(None, description="with another one it stops; null: any one")
    aggregate: Aggregate | None = Field(None, description="of an ensemble; null: its own")
    coefficient: float | None = Field(None, ge=0, description="of the aggregate; null: its own")
    truncation: Truncation = Field("error", description="what is over the model's limit gets")
    timeout_seconds: float = Field(600.0, gt=0, description="of one call with its retries")

    @model_validator(mode="after")
    def _has_an_address(self) -> "Judge":
        if not self.url.startswith(("http://", "https://")):
            raise ValueError("url starts with http:// or https://")
        return self


AnyJudge = TypeVar("AnyJudge", bound=Judge)


class Service(Judge):
    """Who scores whole files, some prompts at a time."""

    prompts_per_call: int = Field(128, ge=1, description="whose responses are asked for in one")


@dataclass(frozen=True)
class Scored:
    """Candidates with their rewards, None where the service gave none; ``model`` is its name for
    what scored, ``revision`` that of all rewards. ``errors`` counts the reasons for None.

    ``member_scores``, of an ensemble: for each response the raw scores (M,) of its members, whose
    scales differ; None for a response without a reward.
    """

    rows: list[Candidates]
    model: str
    revision: str
    errors: dict[str, int]
    member_scores: list[list[list[float | None] | None]] | None = None


def score(service: Service, rows: Sequence[Candidates], expected: str | None = None) -> Scored:
    """Rewards of every response of ``rows``, in their order.

    ServiceError where the service cannot be asked, and where it is exchanged meanwhile or is not
    of the revision ``expected``: rewards of two models do not compare.
    """
    key = os.environ.get(KEY)
    try:
        # A service that is not there now is a wrong URL; one that goes away later restarts.
        with RewardClient(service.url, key, max_retries=0) as client:
            info = choose(client.models(), service.model)
        check(service, info)
        service = as_it_is_now(service, info)
        with RewardClient(
            service.url,
            key,
            timeout_seconds=service.timeout_seconds,
            max_retries=PATIENCE,
            batch_items=IN_REQUEST,
            concurrency=AT_A_TIME,
            retry_faults=True,
        ) as client:
            parts = [ask(client, service, info, part) for part in cut(rows, service)]
    except PlauditError as error:
        raise ServiceError(f"{service.url}: {error}") from error
    pinned = [one for one in (service.revision, expected) if one is not None]
    seen = [*pinned, *(one.revision for one in parts)]
    refuse_exchanged(service, info, seen)
    return joined(info.name, rows, parts)


def check(service: Judge, info: ModelInfo) -> None:
    if service.revision not in (None, info.revision):
        raise ServiceError(
            f"{service.url}: {info.name} is of revision {info.revision}, not {service.revision}: "
            "serve that one, or change service.revision"
        )
    if info.kind != "ensemble" and (service.aggregate or service.coefficient is not None):
        raise ServiceError(
            f"{service.url}: {info.name} is no ensemble, so it has no aggregate or coefficient: "
            "leave them out"
        )


def as_it_is_now(service: AnyJudge, info: ModelInfo) -> AnyJudge:
    """With the aggregate and the coefficient that an ensemble has by default at this time: asked
    for by name, they stay when the service starts again with others. ServiceError if it is gone."""
    if info.kind != "ensemble":
        return service
    try:
        with RewardClient(service.url, os.environ.get(KEY)) as client:
            found = client.ensemble_score(
                [],
                ensemble=info.name,
                aggregate=service.aggregate,
                coefficient=service.coefficient,
            )
    except PlauditError as error:
        raise ServiceError(f"{service.url}: {error}") from error
    now = {"aggregate": found.aggregate, "coefficient": found.coefficient}
    return service.model_copy(update=now)


def refuse_exchanged(service: Service, info: ModelInfo, seen: Sequence[str]) -> None:
    if len(revisions := dict.fromkeys(seen)) > 1:
        raise ServiceError(
            f"{service.url}: {info.name} was exchanged while this ran ({', '.join(revisions)}): "
            "rewards of two revisions do not compare. Serve the first again, or start anew with "
            "another out=DIR"
        )


def cut(rows: Sequence[Candidates], service: Service) -> Iterator[Sequence[Candidates]]:
    """Parts of one call each; at least one, which names the revision."""
    for start in range(0, max(len(rows), 1), service.prompts_per_call):
        yield rows[start : start + service.prompts_per_call]


def ask(
    client: RewardClient, service: Service, info: ModelInfo, rows: Sequence[Candidates]
) -> Scores | EnsembleScores:
    if info.kind == "ensemble":
        return client.ensemble_score(
            [(one.prompt, response) for one in rows for response in one.responses],
            ensemble=info.name,
            aggregate=service.aggregate,
            coefficient=service.coefficient,
            truncation=service.truncation,
        )
    groups = [(one.prompt, one.responses) for one in rows]
    return client.score_groups(groups, model=info.name, truncation=service.truncation)


def joined(
    name: str, rows: Sequence[Candidates], parts: Sequence[Scores | EnsembleScores]
) -> Scored:
    revision = parts[0].revision
    rewards = (reward for part in parts for reward in part.rewards)
    found = [
        replace(one, rewards=tuple(islice(rewards, len(one.responses))), revision=revision)
        for one in rows
    ]
    errors: Counter[str] = Counter(
        item.error.type for part in parts for item in part.items if item.error is not UNSET
    )
    members = [part.member_scores for part in parts if isinstance(part, EnsembleScores)]
    if not members:
        return Scored(found, name, revision, dict(errors))
    flat = (scores for part in members for scores in part)
    by_row = [list(islice(flat, len(one.responses))) for one in rows]
    return Scored(found, name, revision, dict(errors), by_row)
