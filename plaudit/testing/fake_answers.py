"""The answers of ``plaudit.testing.FakeServer``: made-up rewards in the service's wire format.

Letters: N items of a request, M members. Standard library only; ``plaudit.aggregate`` has NumPy.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from plaudit.client.batches import estimated_tokens
from plaudit.wire import (
    Aggregate,
    EnsembleRequest,
    EnsembleResponse,
    Item,
    ItemError,
    ItemResult,
    MemberInfo,
    ScoreRequest,
    ScoreResponse,
    Usage,
)

Reward = Callable[[Item], float | ItemError]
Outcomes = Sequence[tuple[Item, float | ItemError]]
R = TypeVar("R", ScoreRequest, EnsembleRequest)
# What the service takes when neither request nor ensemble has one.
COEFFICIENT = 0.5


def scored(outcomes: Outcomes, model: str, revision: str) -> ScoreResponse:
    """A score is its reward: nothing is calibrated."""
    results = [_result(item, outcome) for item, outcome in outcomes]
    whole = [
        msgspec.structs.replace(r, score=o) if isinstance(o, float) else r
        for r, (_, o) in zip(results, outcomes, strict=True)
    ]
    return ScoreResponse(model, revision, _rewards(outcomes), whole, _usage(whole))


def scored_by_all(
    outcomes: Outcomes,
    asked: EnsembleRequest,
    ensemble: str,
    revision: str,
    offsets: Sequence[float],
) -> EnsembleResponse:
    """Member m's score is the reward and ``offsets[m]``."""
    kind = asked.aggregate or "mean"
    coefficient = COEFFICIENT if asked.coefficient is None else asked.coefficient
    rows = [
        [outcome + offset for offset in offsets] if isinstance(outcome, float) else None
        for _, outcome in outcomes
    ]
    combined: list[float | ItemError] = [
        outcome if row is None else combine(row, kind, coefficient)
        for row, (_, outcome) in zip(rows, outcomes, strict=True)
    ]
    results = [_result(item, one) for (item, _), one in zip(outcomes, combined, strict=True)]
    return EnsembleResponse(
        ensemble=ensemble,
        revision=revision,
        aggregate=kind,
        coefficient=coefficient,
        degraded=False,
        rewards=[one if isinstance(one, float) else None for one in combined],
        mean=[None if row is None else statistics.fmean(row) for row in rows],
        variance=[_variance(row) for row in rows],
        members=[MemberInfo(f"member-{m}", revision) for m in range(len(offsets))],
        member_scores=[None if row is None else [*row] for row in rows],
        items=results,
        usage=_usage(results),
    )


def combine(rewards: Sequence[float], kind: Aggregate, coefficient: float) -> float:
    """As ``plaudit.aggregate.aggregate``, of one item."""
    mean, penalty = statistics.fmean(rewards), _variance(rewards) or 0.0
    match kind:
        case "mean":
            return mean
        case "median":
            return statistics.median(rewards)
        case "wco":
            return min(rewards)
        case "uwo":
            return mean - coefficient * penalty
        case "lcb":
            return mean - coefficient * math.sqrt(penalty)


def _variance(rewards: Sequence[float] | None) -> float | None:
    return statistics.variance(rewards) if rewards and len(rewards) > 1 else None


def _rewards(outcomes: Outcomes) -> list[float | None]:
    return [outcome if isinstance(outcome, float) else None for _, outcome in outcomes]


def _result(item: Item, outcome: float | ItemError) -> ItemResult:
    if isinstance(outcome, ItemError):
        return ItemResult(error=outcome)
    return ItemResult(reward=outcome, tokens=estimated_tokens(item), truncated=0, cached=False)


def _usage(results: Sequence[ItemResult]) -> Usage:
    tokens = sum(result.tokens for result in results if isinstance(result.tokens, int))
    return Usage(tokens, tokens, 0)
