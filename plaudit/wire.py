"""Requests and responses: one definition for the server, the client and OpenAPI.

Letters: N items of a request, M members of an ensemble.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Aggregate = Literal["mean", "median", "wco", "lcb", "uwo"]
Truncation = Literal["error", "left", "right"]
ItemErrorType = Literal[
    "malformed",
    "empty",
    "no-response",
    "no-template",
    "too-long",
    "token-out-of-range",
    "non-finite",
    "engine-fault",
]


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = str | list[Message]


class Item(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to score, in exactly one of four forms.

    ``prompt`` and ``response``; ``messages`` ending with the assistant's; ``text``, templated
    already; or ``token_ids``. The first two get the model's own chat template, the others none.
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
    """Body of ``POST /score``: ``items`` or ``groups``."""

    model: str | None = None
    items: list[Item] | None = None
    groups: list[Group] | None = None
    truncation: Truncation = "error"


class EnsembleRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Body of ``POST /ensemble_score``; ``aggregate`` and ``coefficient`` default to the
    ensemble's own."""

    ensemble: str | None = None
    items: list[Item] | None = None
    groups: list[Group] | None = None
    truncation: Truncation = "error"
    aggregate: Aggregate | None = None
    coefficient: Annotated[float, Meta(ge=0)] | None = None


class ItemError(Struct, frozen=True):
    """Why one item has no reward."""

    type: ItemErrorType
    detail: str


class ItemResult(Struct, frozen=True):
    """One item of a response: a score (of one model), tokens and cuts, or an error."""

    score: float | UnsetType = UNSET
    reward: float | UnsetType = UNSET
    tokens: int | UnsetType = UNSET
    truncated: int | UnsetType = UNSET
    cached: bool | UnsetType = UNSET
    error: ItemError | UnsetType = UNSET


class Usage(Struct, frozen=True):
    """Tokens asked for, tokens that went through a model, items answered from the cache."""

    tokens: int
    computed_tokens: int
    cached: int


class ScoreResponse(Struct, frozen=True):
    """``rewards`` (N,) in request order; null where ``items`` has an error."""

    model: str
    revision: str
    rewards: list[float | None]
    items: list[ItemResult]
    usage: Usage


class MemberInfo(Struct, frozen=True):
    name: str
    revision: str


class EnsembleResponse(Struct, frozen=True):
    """``mean`` and ``variance`` (ddof 1) are over members' calibrated rewards (N,);
    ``member_scores`` (N, M) are raw. ``variance`` of a single member is null."""

    ensemble: str
    revision: str
    aggregate: Aggregate
    coefficient: float
    rewards: list[float | None]
    mean: list[float | None]
    variance: list[float | None]
    members: list[MemberInfo]
    member_scores: list[list[float] | None]
    items: list[ItemResult]
    usage: Usage


class ModelInfo(Struct, frozen=True):
    """One entry of ``GET /models``."""

    name: str
    kind: Literal["single", "warm", "plain", "ensemble"]
    revision: str
    max_tokens: int
    dtype: str
    members: list[str]


class ModelList(Struct, frozen=True):
    models: list[ModelInfo]


class Problem(Struct, frozen=True):
    """RFC 9457 problem+json. ``remedy`` says what mends it."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str
    retryable: bool
    instance: str
