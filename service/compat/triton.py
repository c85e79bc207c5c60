"""Triton's HTTP side, the KServe v2 protocol, with the reward model of NeMo-Aligner's server.

Its inputs, all optional, are ``sentences``, or ``tokens`` and ``sequence_lengths``; its output is
``rewards`` (nemo_aligner/servers/server_callables.py, 0.7.0). Letters: N items.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from fastapi import FastAPI, Request, Response
from msgspec import Struct
from msgspec.json import Decoder

from plaudit.version import VERSION
from plaudit.wire import Item
from service.bodies import decode
from service.compat.exchange import Asked, Exchange, Scored
from service.compat.peer import Peer
from service.compat.triton_tensors import HEADER_LENGTH, Input, Tensor, split, tensors
from service.problems import Failure
from service.routes import Route

# What NeMo-Aligner asks for; here it is what a route without a name means, see --compat-model.
ANY_MODEL = "reward_model"
VERSIONS = ["1"]
MODEL = "/v2/models/{model}"
INPUTS = {"sentences": "BYTES", "tokens": "INT64", "sequence_lengths": "INT64"}
CONFIG_TYPES = {"BYTES": "TYPE_STRING", "INT64": "TYPE_INT64"}


class Output(Struct, frozen=True):
    name: str
    parameters: dict[str, Any] = {}


class Infer(Struct, frozen=True):
    inputs: list[Input]
    outputs: list[Output] = []
    parameters: dict[str, Any] = {}
    id: str = ""

    @property
    def binary(self) -> bool:
        """Whether the caller wants the rewards in binary."""
        every = self.parameters.get("binary_data_output", False)
        asked = [output.parameters.get("binary_data", every) for output in self.outputs]
        return [every, *asked][-1] is True


def add(app: FastAPI, exchange: Exchange) -> None:
    decoder = Decoder(Infer)

    @app.post(MODEL + "/infer")
    async def infer(request: Request, model: str) -> Response:
        """Rewards of sentences or token ids, in the KServe v2 protocol."""
        body = await exchange.bodies.raw(request)
        text, binary = split(body, request.headers.get(HEADER_LENGTH))
        asked = decode(decoder, text)
        if any(output.name != "rewards" for output in asked.outputs):
            raise Failure("malformed", "the one output is rewards")
        items = read(asked.inputs, binary, exchange.max_items)
        scored = await exchange.score(request, Asked("triton", items, named(exchange, model)))
        return answer(asked, scored, model)

    add_metadata(app, exchange)


def add_metadata(app: FastAPI, exchange: Exchange) -> None:
    @app.get(MODEL)
    async def metadata(model: str) -> Response:
        """Inputs and outputs of a model."""
        exchange.chosen(named(exchange, model))
        inputs = [
            {"name": name, "datatype": datatype, "shape": [-1, -1]}
            for name, datatype in INPUTS.items()
        ]
        outputs = [{"name": "rewards", "datatype": "FP32", "shape": [-1, 1]}]
        return as_json({
            "name": model, "versions": VERSIONS, "platform": "plaudit", "inputs": inputs,
            "outputs": outputs,
        })  # fmt: skip

    @app.get(MODEL + "/config")
    async def config(model: str) -> Response:
        """What PyTriton's client reads before its first batch."""
        exchange.chosen(named(exchange, model))
        inputs = [
            {"name": name, "data_type": CONFIG_TYPES[datatype], "dims": [-1], "optional": True}
            for name, datatype in INPUTS.items()
        ]
        outputs = [{"name": "rewards", "data_type": "TYPE_FP32", "dims": [1]}]
        return as_json({
            "name": model, "platform": "plaudit", "max_batch_size": exchange.max_items,
            "input": inputs, "output": outputs,
        })  # fmt: skip

    @app.get(MODEL + "/ready")
    async def model_ready(model: str) -> Response:
        """Whether the model answers."""
        exchange.chosen(named(exchange, model))
        return ready()

    @app.get("/v2/health/ready")
    async def server_ready() -> Response:
        """Whether the server can score, as /readyz."""
        return ready()

    @app.get("/v2/health/live")
    async def live() -> Response:
        """Whether the process lives, as /livez."""
        return Response()

    @app.get("/v2")
    async def server() -> Response:
        """The server and what it knows of the protocol's extensions."""
        extensions = ["binary_tensor_data", "model_configuration"]
        return as_json({"name": "plaudit", "version": VERSION, "extensions": extensions})

    def ready() -> Response:
        if not exchange.registry.engine.ready:
            raise Failure("not-ready", "the engine is being restarted", retry_after_seconds=5)
        return Response()


def as_json(body: object) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


def named(exchange: Exchange, model: str) -> str | None:
    return None if model == ANY_MODEL and not exchange.registry.has(model) else model


def read(inputs: Sequence[Input], binary: bytes, most: int) -> list[Item]:
    """At most ``most`` items. Failure "malformed" for an input that is not of its type."""
    for one in inputs:
        if INPUTS.get(one.name, one.datatype) != one.datatype:
            raise Failure("malformed", f"{one.name} is {INPUTS[one.name]}")
    return items_of(tensors(inputs, binary, most))


def items_of(given: dict[str, Tensor]) -> list[Item]:
    """Sentences (N, 1) or (N,); or tokens (N, T) of which the first of ``sequence_lengths``
    (N, 1) or (N,) are the item, and the others padding."""
    if given.keys() == {"sentences"}:
        return [Item(text=text) for text in column(given["sentences"], "sentences")]
    if given.keys() == {"tokens", "sequence_lengths"}:
        tokens = given["tokens"]
        lengths = column(given["sequence_lengths"], "sequence_lengths")
        if tokens.ndim != 2 or len(tokens) != len(lengths):
            raise Failure("malformed", "tokens are not (N, T), with one of sequence_lengths each")
        if any(not 0 <= length <= tokens.shape[1] for length in lengths):
            raise Failure("malformed", "sequence_lengths are not within the width of tokens")
        rows = zip(tokens.tolist(), lengths, strict=True)
        return [Item(token_ids=row[:length]) for row, length in rows]
    raise Failure("malformed", "the inputs are sentences, or tokens and sequence_lengths")


def column(tensor: Tensor, name: str) -> list[Any]:
    if tensor.ndim == 1 or (tensor.ndim == 2 and tensor.shape[1] == 1):
        found: list[Any] = tensor.ravel().tolist()
        return found
    raise Failure("malformed", f"{name} is not (N,) or (N, 1)")


def answer(asked: Infer, scored: Scored, model: str) -> Response:
    """Rewards (N, 1). One that --compat-on-error made null is null, in binary NaN."""
    output: dict[str, Any] = {
        "name": "rewards", "datatype": "FP32", "shape": [len(scored.numbers), 1],
    }  # fmt: skip
    rewards = np.array(scored.numbers, np.float32)  # None becomes NaN
    binary = rewards.astype("<f4").tobytes() if asked.binary else b""
    if asked.binary:
        output["parameters"] = {"binary_data_size": len(binary)}
    else:
        output["data"] = rewards.tolist()  # NaN is written as null
    body: dict[str, Any] = {"model_name": model, "model_version": VERSIONS[0], "outputs": [output]}
    if asked.id:
        body["id"] = asked.id
    head = msgspec.json.encode(body)
    headers = scored.headers()
    media = "application/json"
    if asked.binary:
        headers[HEADER_LENGTH] = str(len(head))
        media = "application/octet-stream"
    return Response(head + binary, headers=headers, media_type=media)


def refuse(failure: Failure) -> tuple[int, object]:
    """Triton has 400 for what does not fit."""
    status = 400 if failure.status == 422 else failure.status
    return status, {"error": f"{failure.kind}: {failure.detail}"}


PEER = Peer(
    "triton",
    (
        Route("/v2", "open", refuse),
        Route("/v2/health/live", "open", refuse),
        Route("/v2/health/ready", "open", refuse),
        Route(MODEL, "scoring", refuse),
        Route(MODEL + "/config", "scoring", refuse),
        Route(MODEL + "/ready", "scoring", refuse),
        Route(MODEL + "/infer", "scoring", refuse, Infer),
    ),
    add,
)
