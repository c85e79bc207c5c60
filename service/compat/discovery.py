"""What clients of other servers ask before they score: ``/v1/models``, ``/health``, ``/info``."""

import time

import msgspec
from fastapi import FastAPI, Response
from msgspec import Struct

from plaudit.version import VERSION
from plaudit.wire import ModelInfo
from service.compat import openai_errors, tei
from service.compat.exchange import Exchange
from service.compat.peer import LABEL
from service.problems import Failure
from service.routes import Route

MODELS = "/v1/models"
MODEL = "/v1/models/{name:path}"
HEALTH = "/health"
INFO = "/info"


class Card(Struct, frozen=True):
    """A model as OpenAI's client lists it; ``root`` is its revision."""

    id: str
    created: int
    root: str
    max_model_len: int
    parent: None = None
    object: str = "model"
    owned_by: str = "plaudit"


class Cards(Struct, frozen=True):
    data: list[Card]
    object: str = "list"


class Labels(Struct, frozen=True):
    id2label: dict[str, str]
    label2id: dict[str, int]


class Info(Struct, frozen=True):
    """The model that TEI's routes answer with, which have no name for it."""

    model_id: str
    model_sha: str
    model_dtype: str
    model_type: dict[str, Labels]
    max_input_length: int
    max_client_batch_size: int
    auto_truncate: bool
    version: str


def add(app: FastAPI, exchange: Exchange) -> None:
    registry, started = exchange.registry, int(time.time())

    def json(value: object) -> Response:
        return Response(msgspec.json.encode(value), media_type="application/json")

    def card(info: ModelInfo) -> Card:
        return Card(info.name, started, info.revision, info.max_tokens)

    def info_of(name: str | None) -> ModelInfo:
        loaded = exchange.chosen(name)
        return next(one for one in registry.infos() if one.name == loaded.name)

    @app.get(MODELS)
    async def models() -> Response:
        """What is loaded, as OpenAI's client lists it."""
        return json(Cards([card(info) for info in registry.infos()]))

    @app.get(MODEL)
    async def model(name: str) -> Response:
        """One of the loaded models, as OpenAI's client reads it."""
        return json(card(info_of(name)))

    @app.get(HEALTH)
    async def health() -> Response:
        """As vLLM, SGLang and TEI say it: 200 without a body when it can score."""
        if not registry.engine.ready:
            raise Failure("not-ready", "the engine is being restarted", retry_after_seconds=5)
        return Response()

    @app.get(INFO)
    async def info() -> Response:
        """The model that TEI's routes answer with."""
        found = info_of(None)
        return json(
            Info(
                model_id=found.name,
                model_sha=found.revision,
                model_dtype=found.dtype,
                model_type={"reranker": Labels({"0": LABEL}, {LABEL: 0})},
                max_input_length=found.max_tokens,
                max_client_batch_size=exchange.max_items,
                auto_truncate=exchange.truncation != "error",
                version=VERSION,
            )
        )


ROUTES = (
    Route(MODELS, "scoring", openai_errors.refuse),
    Route(MODEL, "scoring", openai_errors.refuse),
    Route(HEALTH, "open", tei.refuse),
    Route(INFO, "scoring", tei.refuse),
)
