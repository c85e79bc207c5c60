"""Texts whose scores are known, and how callers of ours ask for them."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random

import httpx2
from steady_callers import Ask, Callers

from plaudit.client import AsyncRewardClient, RewardClient

# Each answer is computed, and a score is right only to its last bit.
COMPUTING = ("--deterministic", "--cache-megabytes", "0", "--prefix-cache-megabytes", "0")


@dataclass
class Truth:
    """By text: of an idle service, asked one at a time."""

    rewards: dict[str, float]
    scores: dict[str, float]


def truth_of(url: str, count: int = 24) -> Truth:
    rng = Random(0)
    texts = ["".join(rng.choices("abc def", k=rng.randint(8, 300))) for _ in range(count)]
    with RewardClient(url) as client:
        answers = [client.score([{"text": text}]) for text in texts]
    rewards = [answer.rewards[0] for answer in answers]
    scores = [answer.items[0].score for answer in answers]
    return Truth(dict(zip(texts, rewards, strict=True)), dict(zip(texts, scores, strict=True)))


async def add_ours(
    callers: Callers, url: str | list[str], truth: Truth, stack: AsyncExitStack
) -> None:
    """Two callers with a client of ours, with default settings; ``ours_direct`` where it is told
    of each replica."""
    client = await stack.enter_async_context(AsyncRewardClient(url))
    name = "ours" if isinstance(url, str) else "ours_direct"
    callers.add(name, ours(client), truth.rewards, 2)


def ours(client: AsyncRewardClient) -> Ask:
    async def ask(text: str) -> float:
        (reward,) = (await client.score([{"text": text}])).rewards
        assert reward is not None
        return reward

    return ask


def once(client: httpx2.AsyncClient, told: list[str] | None = None) -> Ask:
    """No second attempt. ``told``: what answers say of their connection."""

    async def ask(text: str) -> float:
        answer = await client.post("/score", json={"items": [{"text": text}]})
        if told is not None:
            told.append(answer.headers.get("connection", ""))
        answer.raise_for_status()
        return float(answer.json()["rewards"][0])

    return ask


def once_anew(url: str) -> Ask:
    """The same, each over a connection of its own."""

    async def ask(text: str) -> float:
        async with httpx2.AsyncClient(base_url=url, timeout=120) as client:
            return await once(client)(text)

    return ask
