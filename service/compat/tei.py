"""Text Embeddings Inference's ``/predict`` and its form of ``/rerank``.

Fields and shapes: router/src/http/types.rs, server.rs and lib.rs, 1.9.
"""

from typing import Literal

from fastapi import FastAPI, Request, Response
from msgspec import Struct
from msgspec.json import Decoder

from plaudit.wire import Item, Truncation
from service.compat.exchange import Asked, Exchange, Scored
from service.compat.logistic import logistic
from service.compat.openai_errors import message_of
from service.compat.peer import LABEL, Peer
from service.compat.ranking import ranked
from service.compat.usage import usage_of
from service.items import refuse_more
from service.problems import Failure
from service.routes import Route

PREDICT = "/predict"


class Fitted(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``raw_scores`` false, TEI's default, asks for the logistic function of the score."""

    truncate: bool | None = None
    truncation_direction: Literal["Left", "Right", "left", "right"] = "Right"
    raw_scores: bool = False


class Predict(Fitted, frozen=True):
    """A text, a pair of two (a flat list), or a batch: a list of lists of one or two."""

    inputs: str | list[str | list[str]]


class Rank(Fitted, frozen=True):
    query: str
    texts: list[str]
    return_text: bool = False


class Prediction(Struct, frozen=True):
    score: float | None
    label: str = LABEL


class Ranked(Struct, frozen=True, omit_defaults=True):
    index: int
    score: float | None
    text: str | None = None


class Error(Struct, frozen=True):
    """``message`` is where clients of the other form of ``/rerank`` look."""

    error: str
    error_type: str
    message: str


def truncation_of(body: Fitted) -> Truncation | None:
    if body.truncate is None:
        return None
    if not body.truncate:
        return "error"
    return "left" if body.truncation_direction.lower() == "left" else "right"


def number_of(body: Fitted, score: float | None) -> float | None:
    return score if body.raw_scores or score is None else logistic(score)


async def rank(request: Request, body: Rank, exchange: Exchange) -> Response:
    """Answer TEI's form of ``/rerank``, a path that others have too: see shared_paths."""
    if not body.texts:
        raise Failure("malformed", "texts is empty: send at least one")
    refuse_more(len(body.texts), exchange.max_items)
    items = [Item(prompt=body.query, response=text) for text in body.texts]
    scored = await exchange.score(request, Asked("tei", items, truncation=truncation_of(body)))
    found = [
        Ranked(i, number_of(body, score), body.texts[i] if body.return_text else None)
        for i, score in ranked(scored.numbers)
    ]
    return answer(found, scored, exchange)


def answer(body: object, scored: Scored, exchange: Exchange) -> Response:
    """With the tokens in a header, where TEI has them."""
    response = exchange.answer(body, scored)
    response.headers["x-compute-tokens"] = str(usage_of(scored).prompt_tokens)
    return response


def add(app: FastAPI, exchange: Exchange) -> None:
    decoder = Decoder(Predict)

    @app.post(PREDICT)
    async def predict(request: Request) -> Response:
        """Scores of templated texts, or of pairs of a prompt and a response."""
        body = await exchange.bodies.read(request, decoder)
        one, items = items_in(body.inputs, exchange.max_items)
        truncation = truncation_of(body)
        asked = Asked("tei", items, truncation=truncation, special_tokens=True)
        scored = await exchange.score(request, asked)
        found = [[Prediction(number_of(body, score))] for score in scored.numbers]
        return answer(found[0] if one else found, scored, exchange)


def items_in(inputs: str | list[str | list[str]], most: int) -> tuple[bool, list[Item]]:
    """Whether it is a single one, and the items."""
    if isinstance(inputs, str):
        return True, [Item(text=inputs)]
    refuse_more(len(inputs), most)
    texts = [one for one in inputs if isinstance(one, str)]
    if not texts and inputs:
        return False, [item_of([*one]) for one in inputs]
    if len(texts) == len(inputs):
        return True, [item_of(texts)]
    raise Failure("malformed", "inputs is a mixture; a batch is a list of lists")


def item_of(parts: list[str]) -> Item:
    """One is templated text, two are prompt and response, which get the model's template."""
    match parts:
        case [text]:
            return Item(text=text)
        case [prompt, response]:
            return Item(prompt=prompt, response=response)
    raise Failure(
        "malformed",
        f"{len(parts)} strings in a list of inputs: one is a text and two are a pair; a batch of "
        "texts is a list of lists of one",
    )


# Of our kinds of failure; any other is the caller's.
TYPES = {
    "unscorable": "Tokenizer",
    "overloaded": "Overloaded",
    "quota": "Overloaded",
    "not-ready": "Unhealthy",
    "deadline": "Backend",
    "engine-fault": "Backend",
    "capacity": "Overloaded",
    "internal": "Backend",
}


def refuse(failure: Failure) -> tuple[int, Error]:
    """TEI says 429 when it is full and 424 when its model fails; 503 here, as everywhere."""
    message = message_of(failure)
    return failure.status, Error(message, TYPES.get(failure.kind, "Validation"), message)


PEER = Peer("tei", (Route(PREDICT, "scoring", refuse, Predict),), add)
