"""vLLM's ``/classify`` and ``/pooling``, as verl's reward loop and vLLM's own clients call them.

Answers: vllm/entrypoints/pooling/classify/protocol.py, pooling/protocol.py and utils.py, 0.32.
"""

import json
import time
import uuid
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from msgspec import Struct
from msgspec.json import Decoder

from service.compat import openai_errors
from service.compat.binary import as_base64, as_bytes
from service.compat.exchange import Exchange, Scored
from service.compat.peer import LABEL, Peer
from service.compat.usage import Usage, usage_of
from service.compat.vllm_body import Classify, Pooled, Pooling, asked
from service.routes import Route

POOLING = "/pooling"


class ClassifyData(Struct, frozen=True):
    """``probs`` has the score, which is no probability: the field is vLLM's."""

    index: int
    probs: list[float | None]
    label: str = LABEL
    num_classes: int = 1


class PoolingData(Struct, frozen=True):
    """``data`` is the score in a list, or its bytes in base64."""

    index: int
    data: list[float | None] | str
    object: str = "pooling"


class BytesData(Struct, frozen=True):
    """Where the bytes of one score are in the body."""

    index: int
    embed_dtype: str
    endianness: str
    start: int
    end: int
    shape: list[int]


class Answer(Struct, frozen=True):
    id: str
    created: int
    model: str
    data: list[ClassifyData] | list[PoolingData] | list[BytesData]
    usage: Usage
    object: str = "list"


async def classify(request: Request, body: Classify, exchange: Exchange) -> Response:
    """Answer ``/classify``, a path that SGLang has too: see shared_paths."""
    scored = await exchange.score(request, asked(body, exchange))
    data = [ClassifyData(i, [number]) for i, number in enumerate(scored.numbers)]
    return exchange.answer(answer("classify", body, scored, data), scored)


def add(app: FastAPI, exchange: Exchange) -> None:
    decoder = Decoder(Pooling)

    @app.post(POOLING)
    async def pooling(request: Request) -> Response:
        """Scores of texts, token ids or a conversation, as vLLM's pooling gives them."""
        body = await exchange.bodies.read(request, decoder)
        scored = await exchange.score(request, asked(body, exchange))
        if body.encoding_format in ("bytes", "bytes_only"):
            return in_bytes(body, scored)
        data = [PoolingData(i, written(body, number)) for i, number in enumerate(scored.numbers)]
        return exchange.answer(answer("pooling", body, scored, data), scored)


def written(body: Pooling, number: float | None) -> list[float | None] | str:
    if body.encoding_format == "float":
        return [number]
    return as_base64(number, body.embed_dtype, body.endianness)


def in_bytes(body: Pooling, scored: Scored) -> Response:
    """All scores, one after the other; a header says where each is, unless ``bytes_only``."""
    parts = [as_bytes(number, body.embed_dtype, body.endianness) for number in scored.numbers]
    headers = scored.headers()
    if body.encoding_format == "bytes":
        width = len(parts[0])
        data = [
            BytesData(i, body.embed_dtype, body.endianness, i * width, (i + 1) * width, [1])
            for i in range(len(parts))
        ]
        headers["metadata"] = in_ascii(answer("pooling", body, scored, data))
    return Response(b"".join(parts), headers=headers, media_type="application/octet-stream")


def in_ascii(value: Struct) -> str:
    """JSON that a header can hold."""
    plain: Any = msgspec.to_builtins(value)
    return json.dumps(plain)


def answer(
    route: str,
    body: Pooled,
    scored: Scored,
    data: list[ClassifyData] | list[PoolingData] | list[BytesData],
) -> Answer:
    name = f"{route}-{body.request_id or uuid.uuid4().hex}"
    return Answer(name, int(time.time()), scored.model, data, usage_of(scored))


PEER = Peer("vllm", (Route(POOLING, "scoring", openai_errors.refuse, Pooling),), add)
