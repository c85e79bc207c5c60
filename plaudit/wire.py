"""Requests and responses: one definition for the server, the client and OpenAPI.

Letters: N items of a request, M members of an ensemble.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Aggregate = Literal["mean", "median", "wco", "lcb", "uwo"]
Truncation = Literal["error", "left", "right"]
# Beyond it a number is no weight, and a sum may not be finite.
MAX_WEIGHT = 1e6
ItemErrorType = Literal[
    "malformed",
    "empty",
    "no-response",
    "no-template",
    "too-long",
    "token-out-of-range",
    "non-finite",
    "engine-fault",
    "capacity",
    "quarantined",
]


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = str | list[Message]


class Item(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to score, in exactly one of four forms.

    ``prompt`` and ``response``; ``messages`` ending with the assistant's; ``text``, templated
    already, beside which ``response`` may say which part of it is judged; or ``token_ids``. The
    first two get the model's own chat template, the others none.
    """

    prompt: Prompt | None = None
    response: str | None = None
    messages: list[Message] | None = None
    text: str | None = None
    token_ids: list[int] | None = None


class Group(Struct, frozen=True, forbid_unknown_fields=True):
    """Responses to one prompt; each becomes an item, in order."""

    prompt: Prompt
    responses: list[str]


class ScoreRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Body of ``POST /score``: ``items`` or ``groups``; ``weights`` by objective, of a bundle,
    default to the bundle's own. ``max_tokens`` of an item, where the model's limit is higher;
    ``revision`` is what the model must have to be asked at all."""

    model: str | None = None
    items: list[Item] | None = None
    groups: list[Group] | None = None
    truncation: Truncation = "error"
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    weights: dict[str, Annotated[float, Meta(ge=0, le=MAX_WEIGHT)]] | None = None
    revision: str | None = None


class EnsembleRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Body of ``POST /ensemble_score``; ``aggregate`` and ``coefficient`` default to the
    ensemble's own. ``revision`` is what the ensemble must have to be asked at all."""

    ensemble: str | None = None
    items: list[Item] | None = None
    groups: list[Group] | None = None
    truncation: Truncation = "error"
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    aggregate: Aggregate | None = None
    coefficient: Annotated[float, Meta(ge=0)] | None = None
    revision: str | None = None


class ItemError(Struct, frozen=True):
    """Why one item has no reward."""

    type: ItemErrorType
    detail: str


class ItemResult(Struct, frozen=True):
    """One item of a response: a score (of one model), tokens and cuts, or an error.

    Of a bundle, ``objectives`` and ``scores``: every member's calibrated reward and raw score.
    ``degraded`` is true, and only then there, when the reward is without some members of an
    ensemble; ``failed`` says which, and why.
    """

    score: float | UnsetType = UNSET
    reward: float | UnsetType = UNSET
    objectives: dict[str, float] | UnsetType = UNSET
    scores: dict[str, float] | UnsetType = UNSET
    tokens: int | UnsetType = UNSET
    truncated: int | UnsetType = UNSET
    cached: bool | UnsetType = UNSET
    degraded: Literal[True] | UnsetType = UNSET
    failed: dict[str, ItemError] | UnsetType = UNSET
    error: ItemError | UnsetType = UNSET


class Usage(Struct, frozen=True):
    """Tokens asked for, tokens that went through a model, items answered from the cache."""

    tokens: int
    computed_tokens: int
    cached: int


class ScoreResponse(Struct, frozen=True):
    """``rewards`` (N,) in request order; null where ``items`` has an error. ``weights`` are those
    that a bundle's objectives were summed with."""

    model: str
    revision: str
    rewards: list[float | None]
    items: list[ItemResult]
    usage: Usage
    weights: dict[str, float] | UnsetType = UNSET


class MemberInfo(Struct, frozen=True):
    name: str
    revision: str


class Centre(Struct, frozen=True):
    """What stands in the place of the mean: raw ``scores`` and calibrated ``rewards`` (N,)."""

    name: str
    revision: str
    scores: list[float | None]
    rewards: list[float | None]


class EnsembleResponse(Struct, frozen=True):
    """``mean`` and ``variance`` (ddof 1) are over the calibrated rewards (N,) of the members that
    scored; ``member_scores`` (N, M) are raw, and null where a member did not. ``variance`` of a
    single member is null. ``degraded``: whether any reward is without some members."""

    ensemble: str
    revision: str
    aggregate: Aggregate
    coefficient: float
    degraded: bool
    rewards: list[float | None]
    mean: list[float | None]
    variance: list[float | None]
    members: list[MemberInfo]
    member_scores: list[list[float | None] | None]
    items: list[ItemResult]
    usage: Usage
    centre: Centre | UnsetType = UNSET


class ModelInfo(Struct, frozen=True):
    """One entry of ``GET /models``; ``weights`` are a bundle's, by objective; ``centre`` and
    ``min_members`` an ensemble's."""

    name: str
    kind: Literal["single", "warm", "plain", "ensemble", "objectives"]
    revision: str
    max_tokens: int
    dtype: str
    members: list[str]
    weights: dict[str, float] | UnsetType = UNSET
    centre: str | UnsetType = UNSET
    min_members: int | UnsetType = UNSET


class ModelList(Struct, frozen=True):
    models: list[ModelInfo]


class Problem(Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem+json. ``remedy`` says what mends it. ``revision`` is that of the loaded
    model, where the request was for another."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str
    retryable: bool
    instance: str
    revision: str | None = None
