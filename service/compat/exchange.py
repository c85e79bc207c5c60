"""From a peer's items to the numbers it gets: choice of the model, one BOS, scores, failures.

Letters: N items of a request, M members of an ensemble.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, TypeVar

import msgspec
from fastapi import Request, Response

from plaudit.wire import (
    EnsembleRequest,
    EnsembleResponse,
    Item,
    ItemError,
    ItemResult,
    ScoreRequest,
    ScoreResponse,
    Truncation,
)
from service.bodies import Bodies
from service.compat import on_error
from service.compat.on_error import PeerName
from service.compat.special_tokens import Bos, with_one_bos
from service.ensemble import Ensemble
from service.fair_queue import Caller
from service.hang_up import unless_gone
from service.items import Cut, refuse_more
from service.member import Member
from service.metrics import Metrics
from service.problems import KINDS, Failure
from service.registry import Loaded, Registry
from service.request_headers import caller_of, deadline_seconds
from service.scorer import Scorer
from service.settings import Settings

T = TypeVar("T")
# What goes out. RL trainers read rewards: calibrated, and of an ensemble aggregated, as in the
# ``rewards`` of /score. Users of inference servers expect what those give, the raw score.
NUMBER: dict[PeerName, Literal["reward", "score"]] = {
    "openrlhf": "reward",
    "slime": "reward",
    "triton": "reward",
    "vllm": "score",
    "sglang": "score",
    "tei": "score",
    "cohere": "score",
}
RETRY_AFTER_SECONDS = 5
# Items' errors that a retry may not meet.
PASSING = {name for name, kind in KINDS.items() if kind.retryable}


@dataclass(frozen=True)
class Asked:
    """A peer's request in our words. ``model``, ``truncation`` and ``max_tokens`` are None where it
    does not say; ``special_tokens``: whether texts get those that the tokenizer adds by itself."""

    peer: PeerName
    items: list[Item]
    model: str | None = None
    truncation: Truncation | None = None
    max_tokens: int | None = None
    special_tokens: bool = False


@dataclass(frozen=True)
class Scored:
    """What the peer gets: ``numbers`` (N,), null only where ``--compat-on-error`` says null.

    ``items`` (N,) have the errors that were filled in for. ``response`` is the scorer's own.
    """

    numbers: list[float | None]
    items: list[ItemResult]
    bos: Bos
    response: ScoreResponse | EnsembleResponse

    @property
    def model(self) -> str:
        one = self.response
        return one.ensemble if isinstance(one, EnsembleResponse) else one.model

    @property
    def filled(self) -> list[bool]:
        """(N,): whether the number stands in the place of an error."""
        return [error_of(item) is not None for item in self.items]

    def headers(self) -> dict[str, str]:
        """What formats have no room for."""
        found = {"x-plaudit-revision": self.response.revision}
        if self.bos.kept or self.bos.stripped:
            found["x-plaudit-bos"] = str(self.bos)
        cut = sum(1 for item in self.items if item.truncated not in (0, msgspec.UNSET))
        if cut:
            found["x-plaudit-truncated"] = str(cut)
        degraded = sum(map(is_degraded, self.items))
        if degraded:
            found["x-plaudit-degraded"] = str(degraded)
        if any(self.filled):
            found["x-plaudit-filled"] = str(self.filled.count(True))
        return found


class Exchange:
    """Takes a peer's items through the scorer, as the settings want it for that peer."""

    def __init__(self, scorer: Scorer, bodies: Bodies, settings: Settings, metrics: Metrics):
        self._scorer, self.bodies, self._metrics = scorer, bodies, metrics
        self._model, self.truncation = settings.compat_model, settings.compat_truncation
        self._on_error = on_error.read(settings.compat_on_error)
        self._deadline_seconds, self.max_items = settings.deadline_seconds, settings.max_items

    @property
    def registry(self) -> Registry:
        return self._scorer.registry

    async def score(self, request: Request, asked: Asked) -> Scored:
        """The numbers for ``asked``; the body of ``request`` must have been read. A Failure where
        the policy of the peer is ``fail`` and an item has an error."""
        refuse_more(len(asked.items), self.max_items)
        seconds = deadline_seconds(request.headers, self._deadline_seconds)
        caller = caller_of(request)
        loaded = self.chosen(asked.model)
        tokenizers = [model.encoder.around for model in models_of(loaded)]
        items, bos = with_one_bos(asked.items, tokenizers, asked.special_tokens)
        cut = Cut(asked.truncation or self.truncation, asked.max_tokens)
        scores = self._scores(loaded, items, cut, caller, seconds)
        response = await unless_gone(request, scores)
        request.state.log = {
            "items": len(response.items),
            "tokens": response.usage.tokens,
            "cached": response.usage.cached,
            "failed": response.rewards.count(None),
        }
        numbers = self._filled(asked.peer, response.items)
        return Scored(numbers, response.items, bos, response)

    def answer(self, body: object, scored: Scored) -> Response:
        """``body`` as JSON, beside what its format has no room for."""
        with self._metrics.stage("encode"):
            encoded = msgspec.json.encode(body)
        return Response(encoded, headers=scored.headers(), media_type="application/json")

    def chosen(self, name: str | None) -> Loaded:
        """The loaded thing of that name, or of its last part where it is a path or a hub's id;
        without one ``--compat-model``, or the only thing that is no part of another. Failure
        "unknown-model"."""
        name = self._model if name is None else name
        if name is not None:
            known = self.registry.has(name)
            return self.registry.named(name if known else PurePosixPath(name).name)
        whole = self.registry.wholes()
        if len(whole) != 1:
            raise Failure(
                "unknown-model",
                f"this route names no model, and {len(whole)} are loaded: {whole}; start the "
                "server with --compat-model",
            )
        return self.registry.named(whole[0])

    async def _scores(
        self,
        loaded: Loaded,
        items: list[Item],
        cut: Cut,
        caller: Caller,
        seconds: float,
    ) -> ScoreResponse | EnsembleResponse:
        if isinstance(loaded, Ensemble):
            together = EnsembleRequest(
                loaded.name, items, truncation=cut.truncation, max_tokens=cut.max_tokens
            )
            return await self._scorer.ensemble_score(together, caller, seconds, loaded)
        alone = ScoreRequest(
            loaded.name, items, truncation=cut.truncation, max_tokens=cut.max_tokens
        )
        return await self._scorer.score(alone, caller, seconds, loaded)

    def _filled(self, peer: PeerName, items: Sequence[ItemResult]) -> list[float | None]:
        """(N,) the peer's numbers, by its policy where an item has an error that lasts."""
        numbers = numbers_of(items, NUMBER[peer])
        policy = self._on_error[peer]
        errors = [error_of(item) for item in items]
        if policy.kind == "fail":
            refuse_lasting(errors)
        refuse_passing(errors)
        for error in errors:
            if error is not None:
                self._metrics.rewards.compat_filled.labels(peer, policy.kind, error.type).inc()
        both = zip(numbers, errors, strict=True)
        return [number if error is None else policy.floor for number, error in both]


def models_of(loaded: Loaded) -> Sequence[Member]:
    """All models that score for it."""
    return [loaded] if isinstance(loaded, Member) else loaded.models


def numbers_of(
    items: Sequence[ItemResult], wanted: Literal["reward", "score"]
) -> list[float | None]:
    """(N,) rewards or raw scores. Ensembles and bundles have no one raw score: their reward."""
    found: list[float | None] = []
    for item in items:
        number = item.score if wanted == "score" else item.reward
        number = item.reward if number is msgspec.UNSET else number
        found.append(None if number is msgspec.UNSET else number)
    return found


def error_of(item: ItemResult) -> ItemError | None:
    return None if item.error is msgspec.UNSET else item.error


def is_degraded(item: ItemResult) -> bool:
    """Whether its reward is without some members of the ensemble."""
    return item.degraded is True


def refuse_lasting(errors: Sequence[ItemError | None]) -> None:
    """Failure "unscorable" for the first error that a retry would meet again."""
    for place, error in enumerate(errors):
        if error is not None and error.type not in PASSING:
            raise Failure("unscorable", said(place, error))


def refuse_passing(errors: Sequence[ItemError | None]) -> None:
    """Failure for the first error that is not the item's, but of the moment: nothing stands in for
    what a retry gets."""
    for place, error in enumerate(errors):
        if error is not None and error.type in PASSING:
            raise Failure(error.type, said(place, error), RETRY_AFTER_SECONDS)


def said(place: int, error: ItemError) -> str:
    return f"item {place}: {error.type}: {error.detail}"
