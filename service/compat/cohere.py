"""Rerank as Cohere's client, Jina's and vLLM's speak it: ``/v1/rerank``, ``/v2/rerank``.

The query is the prompt and the documents are responses to it, scored through the model's own chat
template: best-of-n by any rerank client. Fields: cohere 7.3, raw_base_client.py and
v2/raw_client.py; vLLM 0.32, vllm/entrypoints/pooling/scoring/protocol.py.
"""

import uuid
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import Decoder

from plaudit.wire import Item
from service.compat import openai_errors
from service.compat.exchange import Asked, Exchange, Scored
from service.compat.only import Only, check
from service.compat.peer import Peer
from service.compat.ranking import ranked
from service.compat.usage import Usage, usage_of
from service.compat.vllm_body import ONLY, Basic, truncation
from service.items import refuse_more
from service.problems import Failure
from service.routes import Route

PATHS = ("/v1/rerank", "/v2/rerank")


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    text: str


class Rerank(Basic, frozen=True):
    """``top_n`` null or 0: all of them."""

    query: str
    documents: list[str | Document]
    top_n: Annotated[int, Meta(ge=0)] | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    max_tokens_per_doc: int | None = None
    max_tokens_per_query: int | None = None
    max_chunks_per_doc: int | None = None
    instruction: str | None = None
    relevant_spans: Any = None


WHOLE = ((None, 0), "nothing is cut but as truncate_prompt_tokens says; leave it out")
RERANK_ONLY: Only = {
    **ONLY,
    "rank_fields": ((None, ["text"]), "a document is a text; leave it out"),
    "max_tokens_per_doc": WHOLE,
    "max_tokens_per_query": WHOLE,
    "max_chunks_per_doc": ((None,), "a document is scored whole; leave it out"),
    "instruction": ((None,), "the model's template has no place for it; put it into the query"),
    "relevant_spans": ((None,), "a reward model gives no spans; leave it out"),
}


class Result(Struct, frozen=True):
    index: int
    relevance_score: float | None
    document: Document | UnsetType = UNSET


class Results(Struct, frozen=True):
    """Sorted by score, which is no share of 1 as Cohere's is."""

    id: str
    model: str
    results: list[Result]
    usage: Usage


class Error(Struct, frozen=True):
    """Cohere's ``message`` beside vLLM's ``error``."""

    message: str
    error: openai_errors.ErrorInfo


async def rerank(request: Request, body: Rerank, exchange: Exchange) -> Response:
    """Answer a rerank of ``documents``; on ``/rerank``, which TEI has too, see shared_paths."""
    check(body, RERANK_ONLY)
    if not body.documents:
        raise Failure("malformed", "documents is empty: send at least one")
    refuse_more(len(body.documents), exchange.max_items)
    texts = [one if isinstance(one, str) else one.text for one in body.documents]
    items = [Item(prompt=body.query, response=text) for text in texts]
    asked = Asked("cohere", items, body.model, *truncation(body, exchange))
    scored = await exchange.score(request, asked)
    return exchange.answer(results(body, texts, scored), scored)


def results(body: Rerank, texts: list[str], scored: Scored) -> Results:
    named = body.return_documents is not False
    best = ranked(scored.numbers)[: body.top_n or None]
    return Results(
        f"rerank-{body.request_id or uuid.uuid4().hex}",
        scored.model,
        [Result(i, score, Document(texts[i]) if named else UNSET) for i, score in best],
        usage_of(scored),
    )


def add(app: FastAPI, exchange: Exchange) -> None:
    decoder = Decoder(Rerank)

    async def answer(request: Request) -> Response:
        """Responses to a prompt, the best first, as rerankers give documents for a query."""
        return await rerank(request, await exchange.bodies.read(request, decoder), exchange)

    for path in PATHS:
        app.post(path, name=path)(answer)


def refuse(failure: Failure) -> tuple[int, Error]:
    status, body = openai_errors.refuse(failure)
    return status, Error(body.error.message, body.error)


PEER = Peer("cohere", tuple(Route(path, "scoring", refuse, Rerank) for path in PATHS), add)
