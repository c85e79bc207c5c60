"""What the client returns: the answers to the batches of one call, joined in order.

Letters: N items of a call, M members of an ensemble.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import TypeVar

from msgspec import UNSET, UnsetType

from plaudit.client.answers import Answer, decode
from plaudit.client.batches import Batch
from plaudit.client.errors import ItemsFailed, RevisionChanged, UnexpectedAnswer
from plaudit.wire import (
    Aggregate,
    Centre,
    EnsembleResponse,
    ItemResult,
    MemberInfo,
    ScoreResponse,
    Usage,
)

T = TypeVar("T")


@dataclass(frozen=True)
class _Rewards:
    rewards: list[float | None]
    items: list[ItemResult]
    revision: str
    usage: Usage

    def raise_for_errors(self) -> None:
        """Raises ItemsFailed if any item has no reward."""
        errors = {n: item.error for n, item in enumerate(self.items) if item.error is not UNSET}
        if errors:
            raise ItemsFailed(errors, len(self.items))


@dataclass(frozen=True)
class Scores(_Rewards):
    """``rewards`` (N,), for RL; None, never 0.0, where ``items`` has an error. ``weights``: those
    that a bundle's objectives were summed with; None of one model."""

    model: str
    weights: dict[str, float] | None


@dataclass(frozen=True)
class EnsembleScores(_Rewards):
    """``rewards`` (N,), aggregated; None, never 0.0, where ``items`` has an error.

    ``mean`` and ``variance`` (N,) are over the calibrated rewards of the members that scored, ddof
    1; the variance of a single member is None. ``member_scores`` (N, M) are raw: their scales
    differ. ``degraded``: whether any reward is without some members; its item's ``failed`` says
    which. ``centre``: what stands in the place of the mean, if the ensemble has one.
    """

    ensemble: str
    aggregate: Aggregate
    coefficient: float
    degraded: bool
    mean: list[float | None]
    variance: list[float | None]
    members: list[MemberInfo]
    member_scores: list[list[float | None] | None]
    centre: Centre | None


def read_scores(answers: Sequence[Answer], batches: Sequence[Batch]) -> Scores:
    """Raises RevisionChanged and UnexpectedAnswer."""
    decoded = [decode(answer, ScoreResponse) for answer in answers]
    return merge_scores(decoded, [batch.places for batch in batches])


def read_ensemble(answers: Sequence[Answer], batches: Sequence[Batch]) -> EnsembleScores:
    """Raises RevisionChanged and UnexpectedAnswer."""
    decoded = [decode(answer, EnsembleResponse) for answer in answers]
    return merge_ensemble(decoded, [batch.places for batch in batches])


def merge_scores(answers: Sequence[ScoreResponse], places: Sequence[Sequence[int]]) -> Scores:
    """Join at least one answer; ``places`` are those, in the call, of the items asked for in each.

    Raises RevisionChanged, and UnexpectedAnswer where an answer does not fit its request.
    """
    for answer, asked in zip(answers, places, strict=True):
        _check(len(asked), answer.rewards, answer.items)
    _check_same([f"{answer.model} {answer.revision}" for answer in answers])
    return Scores(
        rewards=_joined(places, (answer.rewards for answer in answers)),
        items=_joined(places, (answer.items for answer in answers)),
        revision=answers[0].revision,
        usage=_total(answer.usage for answer in answers),
        model=answers[0].model,
        weights=None if answers[0].weights is UNSET else answers[0].weights,
    )


def merge_ensemble(
    answers: Sequence[EnsembleResponse], places: Sequence[Sequence[int]]
) -> EnsembleScores:
    """As ``merge_scores``."""
    for answer, asked in zip(answers, places, strict=True):
        _check(len(asked), answer.rewards, answer.items)
        _check_lengths(len(asked), answer.mean, answer.variance, answer.member_scores)
    _check_same([_described(answer) for answer in answers])
    first = answers[0]
    return EnsembleScores(
        rewards=_joined(places, (answer.rewards for answer in answers)),
        items=_joined(places, (answer.items for answer in answers)),
        revision=first.revision,
        usage=_total(answer.usage for answer in answers),
        ensemble=first.ensemble,
        aggregate=first.aggregate,
        coefficient=first.coefficient,
        degraded=any(answer.degraded for answer in answers),
        mean=_joined(places, (answer.mean for answer in answers)),
        variance=_joined(places, (answer.variance for answer in answers)),
        members=first.members,
        member_scores=_joined(places, (answer.member_scores for answer in answers)),
        centre=_centre([answer.centre for answer in answers], places),
    )


def _centre(parts: Sequence[Centre | UnsetType], places: Sequence[Sequence[int]]) -> Centre | None:
    """Joined; equal revisions of the ensemble have equal centres, or none."""
    found = [part for part in parts if part is not UNSET]
    if not found:
        return None
    for part, asked in zip(found, places, strict=True):
        _check_lengths(len(asked), part.scores, part.rewards)
    return Centre(
        name=found[0].name,
        revision=found[0].revision,
        scores=_joined(places, (part.scores for part in found)),
        rewards=_joined(places, (part.rewards for part in found)),
    )


def _check(size: int, rewards: list[float | None], items: list[ItemResult]) -> None:
    _check_lengths(size, rewards, items)
    for reward, item in zip(rewards, items, strict=True):
        if (reward is None) != (item.error is not UNSET):
            raise UnexpectedAnswer("an item has both a reward and an error, or neither")


def _check_lengths(size: int, *columns: Sequence[object]) -> None:
    for column in columns:
        if len(column) != size:
            raise UnexpectedAnswer(f"{size} items were sent, and {len(column)} came back")


def _described(answer: EnsembleResponse) -> str:
    """Its revision is of its members alone, and not of how their scores become a reward."""
    how = f"{answer.aggregate} {answer.coefficient:g}"
    return f"{answer.ensemble} {answer.revision} {how}"


def _check_same(scored_by: Sequence[str]) -> None:
    seen = list(dict.fromkeys(scored_by))
    if len(seen) > 1:
        raise RevisionChanged(seen)


def _joined(places: Iterable[Sequence[int]], columns: Iterable[list[T]]) -> list[T]:
    """The values of all columns, each at its place."""
    placed = zip(chain.from_iterable(places), chain.from_iterable(columns), strict=True)
    return [value for _, value in sorted(placed, key=itemgetter(0))]


def _total(usages: Iterable[Usage]) -> Usage:
    parts = list(usages)
    return Usage(
        tokens=sum(part.tokens for part in parts),
        computed_tokens=sum(part.computed_tokens for part in parts),
        cached=sum(part.cached for part in parts),
    )
