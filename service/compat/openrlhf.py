"""OpenRLHF's remote reward model: ``--reward.remote_url http://HOST/get_reward``.

Its client (openrlhf/utils/agent.py, 0.11.2) posts lists of one; versions before 0.9.2 whole shards,
which may be empty, and before 0.6 only ``query``.
"""

from typing import Any

from fastapi import FastAPI, Request, Response
from msgspec import UNSET, Struct
from msgspec.json import Decoder

from plaudit.wire import EnsembleResponse, Item
from service.compat.exchange import Asked, Exchange, Scored, is_degraded
from service.compat.logistic import logistic
from service.compat.peer import Peer
from service.items import refuse_more
from service.problems import Failure
from service.routes import Route

PATH = "/get_reward"


class GetReward(Struct, frozen=True):
    """``query`` (N,): prompt and response templated by the trainer, special tokens in them;
    ``prompts`` (N,) or none: how each begins; ``labels`` are not needed to score."""

    query: list[str] | str
    prompts: list[Any] = []
    labels: list[Any] = []


class Rewards(Struct, frozen=True):
    """``scores`` (N,) in 0..1 are for filtering prompts; each of ``extra_logs`` (N,) is a metric of
    the trainer."""

    rewards: list[float | None]
    scores: list[float | None]
    extra_logs: dict[str, list[float]]


def add(app: FastAPI, exchange: Exchange) -> None:
    decoder = Decoder(GetReward)

    @app.post(PATH)
    async def get_reward(request: Request) -> Response:
        """Rewards of templated texts, as OpenRLHF asks for them."""
        body = await exchange.bodies.read(request, decoder)
        items = items_of(body, exchange.max_items)
        scored = await exchange.score(request, Asked("openrlhf", items))
        return exchange.answer(rewards_of(scored), scored)


def items_of(body: GetReward, most: int) -> list[Item]:
    """The texts, each with its response where the prompt tells where that begins."""
    queries = [body.query] if isinstance(body.query, str) else body.query
    refuse_more(len(queries), most)
    if len(body.prompts) != len(queries):
        return [Item(text=query) for query in queries]
    both = zip(queries, body.prompts, strict=True)
    return [item_of(query, response_of(query, prompt)) for query, prompt in both]


def item_of(query: str, response: str | None) -> Item:
    # An empty response would leave the prompt, whose score would be taken for its own.
    return Item(text="" if response == "" else query, response=response)


def response_of(query: str, prompt: object) -> str | None:
    if isinstance(prompt, str) and prompt and query.startswith(prompt):
        return query.removeprefix(prompt)
    return None


def rewards_of(scored: Scored) -> Rewards:
    scores = [None if reward is None else logistic(reward) for reward in scored.numbers]
    return Rewards(scored.numbers, scores, extra_logs(scored))


def extra_logs(scored: Scored) -> dict[str, list[float]]:
    """(N,) each. The trainer joins those of all samples, so the keys are the same for all; those of
    an item without a reward are 0, and ``filled`` is 1."""
    logs: dict[str, list[float]] = {
        "tokens": [0.0 if i.tokens is UNSET else float(i.tokens) for i in scored.items],
        "truncated": [0.0 if i.truncated is UNSET else float(i.truncated) for i in scored.items],
        "bos": [float(count) for count in scored.bos.found],
        "filled": [float(filled) for filled in scored.filled],
    }
    if isinstance(scored.response, EnsembleResponse):
        logs["mean"] = [0.0 if mean is None else mean for mean in scored.response.mean]
        logs["variance"] = [0.0 if v is None else v for v in scored.response.variance]
        logs["degraded"] = [float(is_degraded(item)) for item in scored.items]
    return logs


def refuse(failure: Failure) -> tuple[int, object]:
    """The client reads no body of an error, but people and logs do."""
    return failure.status, {"error": failure.detail, "type": failure.kind}


PEER = Peer("openrlhf", (Route(PATH, "scoring", refuse, GetReward),), add)
