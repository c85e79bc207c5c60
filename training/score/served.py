"""Scores by a running service."""

import os
import sys
from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from plaudit.client import RewardClient
from plaudit.client.errors import PlauditError
from plaudit.client.scores import EnsembleScores, Scores
from plaudit.integrations.source import PATIENCE
from plaudit.wire import ItemResult, ModelInfo, Truncation
from training.score.outcome import Asked, Outcome, Scorer

# The key of a service that asks for one; never on the command line, where others can read it.
KEY = "PLAUDIT_CLIENT_API_KEY"
# Responses of one call, which has its own deadline.
PART = 1024
TIMEOUT_SECONDS = 600.0


class ServiceError(ValueError):
    """A service that cannot be asked; the text says why."""


def score(
    url: str, model: str | None, asked: Sequence[Asked], truncation: Truncation
) -> tuple[Scorer, list[Outcome]]:
    """In the order of ``asked``; ``model`` may be left out where the service has one."""
    key = os.environ.get(KEY)
    info = named(url, model)
    try:
        parts = []
        with RewardClient(
            url, key, timeout_seconds=TIMEOUT_SECONDS, max_retries=PATIENCE, retry_faults=True
        ) as client:
            for start in range(0, len(asked), PART):
                parts.append(_part(client, info, asked[start : start + PART], truncation))
                print(f"{info.name}: {start + len(parts[-1].items)} responses", file=sys.stderr)
    except PlauditError as error:
        raise ServiceError(f"{url}: {error}") from error
    revisions = {part.revision for part in parts}
    if len(revisions) > 1:
        raise ServiceError(f"{url}: {info.name} was exchanged meanwhile; score again")
    return Scorer(info.name, revisions.pop()), [
        outcome for part in parts for outcome in outcomes(part)
    ]


def named(url: str, model: str | None) -> ModelInfo:
    """What the service says of the model; ServiceError where it cannot be asked."""
    try:
        # A service that is not there now is a wrong URL; one that goes away later restarts.
        with RewardClient(url, os.environ.get(KEY), max_retries=0) as client:
            return choose(client.models(), model)
    except PlauditError as error:
        raise ServiceError(f"{url}: {error}") from error


def choose(models: Sequence[ModelInfo], name: str | None) -> ModelInfo:
    found = [one for one in models if name in (None, one.name)]
    if len(found) != 1:
        names = ", ".join(one.name for one in models)
        raise ServiceError(f"say which model scores: --model with one of {names}")
    return found[0]


def _part(
    client: RewardClient, info: ModelInfo, asked: Sequence[Asked], truncation: Truncation
) -> Scores | EnsembleScores:
    if info.kind == "ensemble":
        return client.ensemble_score(asked, ensemble=info.name, truncation=truncation)
    return client.score(asked, model=info.name, truncation=truncation)


def outcomes(found: Scores | EnsembleScores) -> list[Outcome]:
    plain = [*map(_outcome, found.items, found.rewards)]
    if isinstance(found, Scores):
        return plain
    centre = [None] * len(plain) if found.centre is None else found.centre.scores
    return [
        replace(outcome, member_scores=members, centre_score=score)
        for outcome, members, score in zip(plain, found.member_scores, centre, strict=True)
    ]


def _outcome(item: ItemResult, reward: float | None) -> Outcome:
    return Outcome(
        reward=reward,
        score=None if item.score is UNSET else item.score,
        member_scores=None if item.scores is UNSET else [*item.scores.values()],  # of a bundle
        failed=None if item.failed is UNSET else item.failed,
        truncated=0 if item.truncated is UNSET else item.truncated,
        error=None if item.error is UNSET else item.error,
    )
