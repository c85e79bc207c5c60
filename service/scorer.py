"""The use case: requests in, responses out. Knows no HTTP.

repeats' scores -> encode the others in a thread -> look them up -> quota -> admit -> members' raw
scores -> calibrate -> aggregate, in request order.
Letters: N items of a request, S of them scored, M members.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
from msgspec import UNSET

from plaudit.objectives import weighted_sum
from plaudit.wire import (
    EnsembleRequest,
    EnsembleResponse,
    Item,
    ItemError,
    ItemResult,
    ScoreRequest,
    ScoreResponse,
)
from service import ensemble_answer
from service.admission import within
from service.bundle import Bundle
from service.ensemble import Ensemble
from service.fair_queue import Caller
from service.gate import Gate
from service.items import Cut, Encoded, Seen, about_tokens, encode, items_of, left_of
from service.joint_results import OUT_OF_RANGE, calibrate, joint_results, raw_scores, usage
from service.member import Member
from service.member_scores import MemberScores, Outcome, Scored, refuse_without_memory
from service.metrics import Metrics
from service.places import Places
from service.problems import Failure, quote
from service.registry import Loaded, Registry
from service.repeats import Repeats, digests, under
from service.shadow import Shadow

T = TypeVar("T")
U = TypeVar("U")


class Scorer:
    """Scores requests with the members of a registry."""

    def __init__(
        self,
        registry: Registry,
        member_scores: MemberScores,
        repeats: Repeats,
        gate: Gate,
        metrics: Metrics,
        max_items: int,
    ):
        self.registry = registry
        self._member_scores, self._repeats = member_scores, repeats
        self._gate = gate
        self._metrics, self._max_items = metrics, max_items
        self._tokenizer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")
        self.shadow: Shadow | None = None  # what is shown all that is answered, while it lasts
        self._item_since: float | None = None  # by ``time.perf_counter``, of the tokenizer's item

    async def score(
        self,
        request: ScoreRequest,
        caller: Caller,
        seconds: float,
        found: Member | Bundle | None = None,
    ) -> ScoreResponse:
        """Answer ``POST /score`` within ``seconds``: a Failure ends the request, an item's error
        only the item. ``found``: what a caller has looked up already."""
        member = found or self.registry.model(request.model)
        if isinstance(member, Bundle):
            return await self._bundle_score(member, request, caller, seconds)
        refuse_another(member.name, member.revision, request.revision)
        if request.weights is not None:
            raise Failure("malformed", f"weights are of a bundle; {member.name} is one model")
        seen, outcomes = await self._outcomes([member], request, caller, seconds)
        results = [
            score_result(member, one, outcome)
            for one, outcome in zip(seen[0], outcomes[0], strict=True)
        ]
        rewards = [r.reward if isinstance(r.reward, float) else None for r in results]
        self._given(member, rewards)
        return ScoreResponse(
            model=member.name,
            revision=member.revision,
            rewards=rewards,
            items=results,
            usage=usage(seen, outcomes, results),
        )

    async def _bundle_score(
        self, bundle: Bundle, request: ScoreRequest, caller: Caller, seconds: float
    ) -> ScoreResponse:
        """An item that one member cannot score has no reward: a partial sum would be another."""
        own = bundle
        if request.weights is not None:
            bundle = bundle.weighed(request.weights)
        refuse_another(bundle.name, bundle.revision, request.revision)
        members = [*bundle.members.values()]
        seen, outcomes = await self._outcomes(members, request, caller, seconds)
        raw = raw_scores(outcomes)
        rewards = calibrate(raw, members, seen)
        places = np.flatnonzero(~np.isnan(raw).any(axis=1)).tolist()
        at = Places(places, len(raw))
        sums = at.floats(weighted_sum(rewards[places], [*bundle.weights.values()]))
        self._given(own, sums)
        summed = joint_results(seen, outcomes, sums)
        return ScoreResponse(
            model=bundle.name,
            revision=bundle.revision,
            rewards=sums,
            items=[*map(bundle.result, summed, at.rows(rewards[places]), at.rows(raw[places]))],
            usage=usage(seen, outcomes, summed),
            weights=bundle.weights,
        )

    async def ensemble_score(
        self,
        request: EnsembleRequest,
        caller: Caller,
        seconds: float,
        found: Ensemble | None = None,
    ) -> EnsembleResponse:
        """Answer ``POST /ensemble_score``. An item that too few members can score has no reward."""
        own = found or self.registry.ensemble(request.ensemble)
        refuse_another(own.name, own.revision, request.revision)
        ensemble = own.asked(request.aggregate, request.coefficient)
        seen, outcomes = await self._outcomes(ensemble.models, request, caller, seconds)
        answer = ensemble_answer.answer(ensemble, seen, outcomes)
        self._given(own, answer.rewards)
        self._count(own, answer)
        return answer

    def _given(self, loaded: Loaded, rewards: Sequence[float | None]) -> None:
        # By the revision that was loaded: weights of a request make another, of which there are
        # as many as callers like.
        given = len(rewards) - rewards.count(None)
        self._metrics.rewards.given[loaded.name, loaded.revision].inc(given)

    def _count(self, own: Ensemble, answer: EnsembleResponse) -> None:
        if self.registry.ensembles[own.name] is own:  # of other members it would say nothing
            self._metrics.rewards.agreements[answer.ensemble].add(
                np.array([row for row in answer.member_scores if row and None not in row], float),
                [variance for variance in answer.variance if variance is not None],
            )
        disagreement = self._metrics.rewards.ensemble_std.labels(answer.ensemble)
        for variance in answer.variance:
            if variance is not None:
                disagreement.observe(math.sqrt(variance))
        for item in answer.items:
            if item.failed is not UNSET:
                for member, error in item.failed.items():
                    self._metrics.rewards.degraded.labels(answer.ensemble, member, error.type).inc()

    async def _outcomes(
        self,
        members: Sequence[Member],
        request: ScoreRequest | EnsembleRequest,
        caller: Caller,
        seconds: float,
    ) -> tuple[list[list[Seen | ItemError]], list[list[Outcome]]]:
        """For each member every item in order, and its score or error.

        Only items that are no repeats, or whose score is no longer kept, are encoded and admitted.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        items = items_of(request.items, request.groups, self._max_items)
        cut, sent = Cut(request.truncation, request.max_tokens), digests(items)
        asked = [under(member.revision, cut, sent) for member in members]
        seen = [self._repeats.get(row) for row in asked]
        kept = [self._member_scores.kept(row) for row in seen]
        missing = [i for i, scores in enumerate(zip(*kept, strict=True)) if None in scores]
        again = [[row[i] for i in missing] for row in kept]
        anew = [items[i] for i in missing]
        fresh, found = await self._anew(members, anew, again, cut, caller, deadline)
        for row, encoded in zip(asked, fresh, strict=True):
            places = zip(missing, encoded, strict=True)
            self._repeats.put({row[i]: e.seen for i, e in places if isinstance(e, Encoded)})
        rows = [
            fill(row, missing, [e.seen if isinstance(e, Encoded) else e for e in encoded])
            for row, encoded in zip(seen, fresh, strict=True)
        ]
        self._count_sequences(members, rows, cut)
        both = zip(kept, found, strict=True)
        outcomes: list[list[Outcome]] = [fill(row, missing, new) for row, new in both]
        refuse_without_memory(outcomes)
        if self.shadow is not None:
            self.shadow.saw(members, items, cut, rows, outcomes)
        return rows, outcomes

    def _count_sequences(
        self, members: Sequence[Member], rows: Sequence[Sequence[Seen | ItemError]], cut: Cut
    ) -> None:
        for member, row in zip(members, rows, strict=True):
            read = [one for one in row if isinstance(one, Seen)]
            self._metrics.rewards.sequences[member.name,].inc(len(read))
            shorter = sum(1 for one in read if one.truncated)
            self._metrics.rewards.truncated[cut.truncation,].inc(shorter)

    async def _anew(
        self,
        members: Sequence[Member],
        items: Sequence[Item],
        kept: Sequence[Sequence[Scored | None]],
        cut: Cut,
        caller: Caller,
        deadline: float,
    ) -> tuple[list[list[Encoded | ItemError]], list[list[Outcome]]]:
        """For each member the items encoded, and their scores or errors; ``kept`` has what some
        members had of them."""
        if not items:
            return [[] for _ in members], [[] for _ in members]
        whole = [about_tokens(item) for item in items]
        limits = [member.encoder.limit(cut.max_tokens) for member in members]
        about = sum(left_of(tokens, cut, most) for most in limits for tokens in whole)
        with self._gate.coming(caller, about, deadline):
            encoded = [await self._encode(m, items, cut, deadline) for m in members]
        admit = partial(self._gate.admit, caller, deadline=deadline)
        return encoded, await self._member_scores.of(members, encoded, kept, caller, admit)

    def tokenizing_seconds(self) -> float:
        """How long the tokenizer has been at the item that it is at; 0 when at none."""
        since = self._item_since
        return 0.0 if since is None else time.perf_counter() - since

    async def _encode(
        self, member: Member, items: Sequence[Item], cut: Cut, deadline: float
    ) -> list[Encoded | ItemError]:
        numerics = self.registry.engine.numerics
        loop = asyncio.get_running_loop()
        ends = time.perf_counter() + deadline - loop.time()
        waited_for = True

        def one(item: Item) -> Encoded | ItemError:
            self._item_since = time.perf_counter()
            if self._item_since > ends or not waited_for:
                raise TimeoutError
            return encode(member, numerics, item, cut)

        def work() -> list[Encoded | ItemError]:
            try:
                return [one(item) for item in items]
            finally:
                self._item_since = None

        async with within(deadline, "tokenize", self._metrics):
            with self._metrics.stage("tokenize"):
                try:
                    return await loop.run_in_executor(self._tokenizer, work)
                finally:
                    waited_for = False  # a thread's work cannot be cancelled, and ends by itself


def refuse_another(name: str, revision: str, wanted: str | None) -> None:
    """Failure "revision-changed" unless the caller wants this revision, or any."""
    if wanted is not None and wanted != revision:
        said = f"{name} is {revision}, and {quote(wanted, 80)} was asked for"
        raise Failure("revision-changed", said, revision=revision)


def fill(known: Sequence[T | None], missing: Sequence[int], found: Sequence[U]) -> list[T | U]:
    """``known`` with what was found at the places that were missing."""
    new = dict(zip(missing, found, strict=True))
    whole: list[T | U] = []
    for place, one in enumerate(known):
        value = new.get(place, one)
        assert value is not None
        whole.append(value)
    return whole


def score_result(member: Member, seen: Seen | ItemError, outcome: Outcome) -> ItemResult:
    if isinstance(seen, ItemError):
        return ItemResult(error=seen)
    if isinstance(outcome, ItemError):
        return ItemResult(error=outcome)
    reward = member.manifest.calibration.reward(outcome.score, seen.characters)
    if not math.isfinite(reward):  # JSON has no word for it but null
        return ItemResult(error=OUT_OF_RANGE)
    return ItemResult(
        score=outcome.score,
        reward=reward,
        tokens=seen.tokens,
        truncated=seen.truncated,
        cached=outcome.cached,
    )
