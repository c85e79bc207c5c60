"""Paths that two servers have, each for bodies of its own: told apart by their fields.

``/classify`` is vLLM's (``input`` or ``messages``) and SGLang's (``text`` or ``input_ids``);
``/rerank`` is TEI's (``texts``) and vLLM's (``documents``).
"""

from fastapi import FastAPI, Request, Response
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder

from service.bodies import decode
from service.compat import cohere, openai_errors, sglang, tei, vllm
from service.compat.exchange import Exchange
from service.compat.vllm_body import Classify
from service.problems import Failure
from service.routes import Route

CLASSIFY = "/classify"
RERANK = "/rerank"


class Fields(Struct, frozen=True):
    """Those that tell whose body it is."""

    text: Raw | UnsetType = UNSET
    input_ids: Raw | UnsetType = UNSET
    texts: Raw | UnsetType = UNSET


def add(app: FastAPI, exchange: Exchange) -> None:
    fields, bodies = Decoder(Fields), exchange.bodies
    of_vllm, of_sglang = Decoder(Classify), Decoder(sglang.Native)
    of_tei, of_cohere = Decoder(tei.Rank), Decoder(cohere.Rerank)

    @app.post(CLASSIFY)
    @app.put(CLASSIFY)
    async def classify(request: Request) -> Response:
        """Scores of texts, token ids or a conversation, as vLLM or SGLang give them."""
        body = await bodies.raw(request)
        found = decode(fields, body)
        if found.text is UNSET and found.input_ids is UNSET:
            return await vllm.classify(request, decode(of_vllm, body), exchange)
        return await sglang.classify(request, decode(of_sglang, body), exchange)

    @app.post(RERANK)
    async def rerank(request: Request) -> Response:
        """Responses to a prompt, the best first, as TEI or vLLM give documents."""
        body = await bodies.raw(request)
        if decode(fields, body).texts is UNSET:
            return await cohere.rerank(request, decode(of_cohere, body), exchange)
        return await tei.rank(request, decode(of_tei, body), exchange)


def refuse_rerank(failure: Failure) -> tuple[int, tei.Error]:
    """In TEI's words, with the 400 that the others say and TEI for an empty list."""
    status, error = tei.refuse(failure)
    return 400 if status == 422 else status, error


ROUTES = (
    Route(CLASSIFY, "scoring", openai_errors.refuse, (Classify, sglang.Native)),
    Route(RERANK, "scoring", refuse_rerank, (tei.Rank, cohere.Rerank)),
)
