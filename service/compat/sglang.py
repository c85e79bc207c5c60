"""SGLang's own ``/classify`` and ``/encode``, and ``/v1/embeddings`` as verl calls it there.

A score is an embedding of one dimension, never normalised. Fields: EmbeddingReqInput in
sglang/srt/managers/io_struct.py, EmbeddingRequest in sglang/srt/entrypoints/openai/protocol.py,
0.5.23. Its ``/v1/classify`` is a softmax, 1.0 for any single score, and is not spoken here.
"""

import uuid
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from msgspec import UNSET, Struct
from msgspec.json import Decoder

from plaudit.wire import Item, ItemResult
from service.compat import openai_errors
from service.compat.binary import as_base64
from service.compat.exchange import Asked, Exchange, Scored
from service.compat.inputs import Input, items_of
from service.compat.only import Only, check
from service.compat.peer import Peer
from service.compat.usage import Usage, usage_of
from service.problems import Failure
from service.routes import Route

ENCODE = "/encode"
EMBEDDINGS = "/v1/embeddings"

PRIORITY = ((None, 0), "say it in the header X-Priority: train, eval or offline")
NO_ADAPTERS = ((None,), "there are no adapters; leave it out")
ONE_DIMENSION = ((None,), "a score has one; leave it out")
ONLY_TEXT = ((None,), "only text and token ids are scored")


class Native(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of ``/classify`` and ``/encode``. ``model`` is ours, SGLang serves one."""

    text: str | list[str] | None = None
    input_ids: list[int | list[int]] | None = None
    rid: str | list[str] | None = None
    model: str | None = None
    priority: int | None = None
    lora_path: Any = None
    image_data: Any = None
    dimensions: int | None = None
    return_pooled_hidden_states: bool = False


NATIVE_ONLY: Only = {
    "priority": PRIORITY,
    "lora_path": NO_ADAPTERS,
    "image_data": ONLY_TEXT,
    "dimensions": ONE_DIMENSION,
    "return_pooled_hidden_states": ((False,), "only scores are given"),
}


class MetaInfo(Struct, frozen=True):
    """``weight_version`` is the revision of the model."""

    id: str
    prompt_tokens: int
    weight_version: str
    finish_reason: None = None


class Embedded(Struct, frozen=True):
    embedding: list[float | None]
    meta_info: MetaInfo


class Embeddings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Body of ``POST /v1/embeddings``. ``user`` and ``rid`` change nothing."""

    input: Input
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None
    rid: str | list[str] | None = None
    dimensions: int | None = None
    priority: int | None = None
    lora_path: Any = None


EMBEDDINGS_ONLY: Only = {
    "dimensions": ONE_DIMENSION,
    "priority": PRIORITY,
    "lora_path": NO_ADAPTERS,
}


class Embedding(Struct, frozen=True):
    embedding: list[float | None] | str
    index: int
    object: str = "embedding"


class EmbeddingList(Struct, frozen=True):
    data: list[Embedding]
    model: str
    usage: Usage
    object: str = "list"


async def classify(request: Request, body: Native, exchange: Exchange) -> Response:
    """Answer ``/classify``, a path that vLLM has too, and ``/encode``. One for one, a list for a
    list."""
    check(body, NATIVE_ONLY)
    one, items = items_in(body, exchange.max_items)
    names = names_in(body.rid, one, len(items))
    scored = await exchange.score(request, Asked("sglang", items, body.model, special_tokens=True))
    revision = scored.response.revision
    found = [
        Embedded([number], MetaInfo(name, tokens(item), revision))
        for number, name, item in zip(scored.numbers, names, scored.items, strict=True)
    ]
    return exchange.answer(found[0] if one else found, scored)


def items_in(body: Native, most: int) -> tuple[bool, list[Item]]:
    """Whether it is a single one, and the items."""
    match body:
        case Native(text=str() as text, input_ids=None):
            return True, items_of(text, "text", most)
        case Native(text=list(texts), input_ids=None):
            return False, items_of([*texts], "text", most)
        case Native(text=None, input_ids=list(ids)):
            one = bool(ids) and isinstance(ids[0], int)
            return one, items_of([*ids], "input_ids", most)
    raise Failure("malformed", "a request has either text or input_ids")


def names_in(rid: str | list[str] | None, one: bool, count: int) -> list[str]:
    """(N,) what ``meta_info`` calls the items; one name for several is the beginning of theirs."""
    match rid:
        case None:
            return [uuid.uuid4().hex for _ in range(count)]
        case str():
            return [rid] if one else [f"{rid}_{i}" for i in range(count)]
    if len(rid) != count:
        raise Failure("malformed", f"rid has {len(rid)} names for {count} items")
    return rid


def tokens(item: ItemResult) -> int:
    return 0 if item.tokens is UNSET else item.tokens


def add(app: FastAPI, exchange: Exchange) -> None:
    native, openai = Decoder(Native), Decoder(Embeddings)

    @app.post(ENCODE)
    @app.put(ENCODE)
    async def encode(request: Request) -> Response:
        """SGLang's other name for its /classify."""
        return await classify(request, await exchange.bodies.read(request, native), exchange)

    @app.post(EMBEDDINGS)
    async def embeddings(request: Request) -> Response:
        """Scores as embeddings of one dimension, as SGLang gives those of a reward model."""
        body = await exchange.bodies.read(request, openai)
        check(body, EMBEDDINGS_ONLY)
        items = items_of(body.input, "input", exchange.max_items)
        asked = Asked("sglang", items, body.model, special_tokens=True)
        scored = await exchange.score(request, asked)
        return exchange.answer(embedding_list(body, scored), scored)


def embedding_list(body: Embeddings, scored: Scored) -> EmbeddingList:
    base64 = body.encoding_format == "base64"
    data = [
        Embedding(as_base64(number) if base64 else [number], i)
        for i, number in enumerate(scored.numbers)
    ]
    return EmbeddingList(data, scored.model, usage_of(scored))


ROUTES = (
    Route(ENCODE, "scoring", openai_errors.refuse, Native),
    Route(EMBEDDINGS, "scoring", openai_errors.refuse, Embeddings),
)
PEER = Peer("sglang", ROUTES, add)
