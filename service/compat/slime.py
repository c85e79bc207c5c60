"""slime's and miles' remote reward model: ``--rm-type remote_rm --rm-url http://HOST/slime``.

Their clients (slime/rollout/rm_hub, miles/rollout/rm_hub) post one sample and take the whole JSON
answer for its reward: a number, or with ``--reward-key score`` an object that has it.
"""

import re
from typing import Any

from fastapi import FastAPI, Request, Response
from msgspec import Struct
from msgspec.json import Decoder

from plaudit.wire import EnsembleResponse, Item, Message
from service.compat.exchange import Asked, Exchange, Scored
from service.compat.peer import Peer
from service.problems import Failure
from service.routes import Route

PATH = "/slime"
KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Sample(Struct, frozen=True):
    """A string ``prompt`` is what the policy's engine was given, which slime tokenises as it is
    (slime/rollout/sglang_rollout.py): templated already. Messages are not."""

    prompt: str | list[Message]
    response: str
    label: Any = None


def add(app: FastAPI, exchange: Exchange) -> None:
    decoder = Decoder(Sample)

    @app.post(PATH)
    async def slime(request: Request) -> Response:
        """The reward of one sample, as slime and miles ask for it; ?key=NAME: in an object."""
        key = key_of(request)
        sample = await exchange.bodies.read(request, decoder)
        scored = await exchange.score(request, Asked("slime", [item_of(sample)]))
        return exchange.answer(reward_of(scored, key), scored)


def key_of(request: Request) -> str | None:
    key = request.query_params.get("key")
    if key is not None and not KEY.fullmatch(key):
        raise Failure("malformed", "key is not a name of letters, digits, - and _")
    return key


def item_of(sample: Sample) -> Item:
    if isinstance(sample.prompt, str):
        # An empty response would leave the prompt, whose score would be taken for its own.
        text = sample.prompt + sample.response if sample.response else ""
        return Item(text=text, response=sample.response)
    return Item(prompt=sample.prompt, response=sample.response)


def reward_of(scored: Scored, key: str | None) -> object:
    """The bare number, or an object with ``key`` beside what an ensemble has to say."""
    (reward,) = scored.numbers
    if key is None:
        return reward
    if isinstance(scored.response, EnsembleResponse):
        mean, variance = scored.response.mean[0], scored.response.variance[0]
        return {"mean": mean, "variance": variance, key: reward}
    return {key: reward}


def refuse(failure: Failure) -> tuple[int, object]:
    """The clients read no body of an error, but people and logs do."""
    return failure.status, {"error": failure.detail, "type": failure.kind}


PEER = Peer("slime", (Route(PATH, "scoring", refuse, Sample),), add)
