"""The use case: requests in, responses out. Knows no HTTP.

encode in a thread -> admit -> members' raw scores -> calibrate -> aggregate, in request order.
Letters: N items of a request, S of them scored, M members.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from plaudit import aggregate
from plaudit.conversation import Encoder, TokenSequence
from plaudit.wire import (
    EnsembleRequest,
    EnsembleResponse,
    Item,
    ItemError,
    ItemResult,
    MemberInfo,
    ScoreRequest,
    ScoreResponse,
    Truncation,
    Usage,
)
from service.admission import Admission, within
from service.fair_queue import Caller
from service.items import Encoded, count_tokens, encode, items_of
from service.member import Member
from service.member_scores import MemberScores, Outcome, Scored
from service.metrics import Metrics
from service.problems import Failure
from service.registry import Registry

Array = np.ndarray[Any, np.dtype[np.float64]]


class Scorer:
    """Scores requests with the members of a registry."""

    def __init__(
        self,
        registry: Registry,
        member_scores: MemberScores,
        admission: Admission,
        metrics: Metrics,
        max_items: int,
    ):
        self.registry = registry
        self._member_scores, self._admission = member_scores, admission
        self._metrics, self._max_items = metrics, max_items
        self._tokenizer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")

    async def score(self, request: ScoreRequest, caller: Caller, seconds: float) -> ScoreResponse:
        """Answer ``POST /score`` within ``seconds``: a Failure ends the request, an item's error
        only the item."""
        deadline = asyncio.get_running_loop().time() + seconds
        member = self.registry.member(request.model)
        encoded = await self._encode(member, self._items(request), request.truncation, deadline)
        async with self._admission.admit(count_tokens(encoded), deadline):
            (outcomes,) = await self._member_scores.of([member], [encoded], caller)
        results = [
            score_result(member, sequence, outcome)
            for sequence, outcome in zip(encoded, outcomes, strict=True)
        ]
        return ScoreResponse(
            model=member.name,
            revision=member.revision,
            rewards=[r.reward if isinstance(r.reward, float) else None for r in results],
            items=results,
            usage=usage([encoded], [outcomes]),
        )

    async def ensemble_score(
        self, request: EnsembleRequest, caller: Caller, seconds: float
    ) -> EnsembleResponse:
        """Answer ``POST /ensemble_score``. An item that one member cannot score has no reward."""
        deadline = asyncio.get_running_loop().time() + seconds
        ensemble = self.registry.ensemble(request.ensemble)
        members = ensemble.members
        items = self._items(request)
        encoded = [await self._encode(m, items, request.truncation, deadline) for m in members]
        async with self._admission.admit(sum(map(count_tokens, encoded)), deadline):
            outcomes = await self._member_scores.of(members, encoded, caller)
        raw, places = scored_rows(outcomes)
        rewards = calibrate(raw, members)
        kind = request.aggregate or ensemble.aggregate
        coefficient = ensemble.coefficient if request.coefficient is None else request.coefficient
        variance = aggregate.variance(rewards)
        if variance is not None:
            for std in np.sqrt(variance):
                self._metrics.ensemble_std.labels(ensemble.name).observe(std)
        combined = aggregate.aggregate(rewards, kind, coefficient)
        at = Places(places, len(items))
        return EnsembleResponse(
            ensemble=ensemble.name,
            revision=ensemble.revision,
            aggregate=kind,
            coefficient=coefficient,
            rewards=at.floats(combined),
            mean=at.floats(aggregate.mean(rewards)),
            variance=at.floats(variance),
            members=[MemberInfo(m.name, m.revision) for m in members],
            member_scores=at.rows(raw),
            items=ensemble_results(encoded[0], outcomes, at.floats(combined)),
            usage=usage(encoded, outcomes),
        )

    def _items(self, request: ScoreRequest | EnsembleRequest) -> list[Item]:
        items = items_of(request.items, request.groups)
        if len(items) > self._max_items:
            raise Failure("too-large", f"{len(items)} items, the limit is {self._max_items}")
        return items

    async def _encode(
        self, member: Member, items: Sequence[Item], truncation: Truncation, deadline: float
    ) -> list[Encoded]:
        encoder: Encoder = member.encoder

        def work() -> list[Encoded]:
            return [encode(encoder, item, truncation) for item in items]

        async with within(deadline, "tokenize", self._metrics):
            with self._metrics.stage("tokenize"):
                encoded = await asyncio.get_running_loop().run_in_executor(self._tokenizer, work)
        cut = sum(1 for e in encoded if isinstance(e, TokenSequence) and e.truncated)
        self._metrics.truncated.labels(truncation).inc(cut)
        return encoded


class Places:
    """Where the S scored items stand among N; the others are null."""

    def __init__(self, places: Sequence[int], count: int):
        self._places, self._count = places, count

    def floats(self, values: Array | None) -> list[float | None]:
        found: list[float | None] = [None] * self._count
        if values is not None:
            for place, value in zip(self._places, values.tolist(), strict=True):
                found[place] = value
        return found

    def rows(self, values: Array) -> list[list[float] | None]:
        found: list[list[float] | None] = [None] * self._count
        for place, row in zip(self._places, values.tolist(), strict=True):
            found[place] = row
        return found


def scored_rows(outcomes: Sequence[Sequence[Outcome]]) -> tuple[Array, list[int]]:
    """Raw scores (S, M) of the items that every member scored, and their places."""
    rows, places = [], []
    for place, row in enumerate(zip(*outcomes, strict=True)):
        scores = [outcome.score for outcome in row if isinstance(outcome, Scored)]
        if len(scores) == len(outcomes):
            rows.append(scores)
            places.append(place)
    return np.array(rows, np.float64).reshape(len(rows), len(outcomes)), places


def calibrate(raw: Array, members: Sequence[Member]) -> Array:
    """Raw scores (S, M) to rewards (S, M), each member by its own calibration."""
    found = np.empty_like(raw)
    for j, member in enumerate(members):
        reward = member.manifest.calibration.reward
        found[:, j] = [reward(score) for score in raw[:, j].tolist()]
    return found


def score_result(member: Member, sequence: Encoded, outcome: Outcome) -> ItemResult:
    if isinstance(sequence, ItemError):
        return ItemResult(error=sequence)
    if isinstance(outcome, ItemError):
        return ItemResult(error=outcome)
    return ItemResult(
        score=outcome.score,
        reward=member.manifest.calibration.reward(outcome.score),
        tokens=len(sequence.ids),
        truncated=sequence.truncated,
        cached=outcome.cached,
    )


def ensemble_results(
    encoded: Sequence[Encoded],
    outcomes: Sequence[Sequence[Outcome]],
    rewards: Sequence[float | None],
) -> list[ItemResult]:
    """Items of an ensemble's answer; tokens and cuts are the first member's."""
    results = []
    for sequence, row, reward in zip(encoded, zip(*outcomes, strict=True), rewards, strict=True):
        errors = [outcome for outcome in row if isinstance(outcome, ItemError)]
        if errors or reward is None or isinstance(sequence, ItemError):
            results.append(ItemResult(error=errors[0]))
            continue
        cached = all(isinstance(outcome, Scored) and outcome.cached for outcome in row)
        results.append(
            ItemResult(
                reward=reward,
                tokens=len(sequence.ids),
                truncated=sequence.truncated,
                cached=cached,
            )
        )
    return results


def usage(encoded: Sequence[Sequence[Encoded]], outcomes: Sequence[Sequence[Outcome]]) -> Usage:
    """Totals over M members; identical sequences of a request are computed once."""
    tokens = cached = 0
    computed = set()
    for j, (sequences, scored) in enumerate(zip(encoded, outcomes, strict=True)):
        for sequence, outcome in zip(sequences, scored, strict=True):
            if not isinstance(sequence, TokenSequence):
                continue
            tokens += len(sequence.ids)
            if isinstance(outcome, Scored) and outcome.cached:
                cached += 1
            else:
                computed.add((j, *sequence.ids))
    return Usage(tokens, sum(len(key) - 1 for key in computed), cached)
