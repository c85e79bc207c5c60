"""Restarts: SIGTERM, SIGKILL, and one replica after the other behind a proxy.

Three replicas of a tiny model. They keep no score, so that each answer is computed.
"""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import httpx2
import pytest
from known_scores import COMPUTING, Truth, add_ours, once, once_anew, truth_of
from proxies import EXAMPLES, envoy_command, nginx_command, placed, proxying
from scraped import value
from served_process import ServedProcess
from steady_callers import Callers, until
from trainer_clients import (
    openrlhf_agent,
    openrlhf_rewards,
    slime_rewards,
    slime_session,
    verl_reward_loop,
    verl_rewards,
)

from plaudit.client import AsyncRewardClient
from training.service_process import free_port

# Envoy looks every second, and nginx not at all. The last replica's is for a slow machine.
DELAYS = ("3", "3", "10")
MANY = 600  # texts, no two alike, of a request that takes long


@pytest.fixture(scope="module")
def fleet(tiny_checkpoint: Path) -> Iterator[list[ServedProcess]]:
    flags = [(*COMPUTING, "--drain-delay-seconds", delay) for delay in DELAYS]
    replicas = [ServedProcess([tiny_checkpoint], *each) for each in flags]
    try:
        for replica in replicas:
            replica.wait()
        yield replicas
    finally:
        for replica in replicas:
            replica.kill()


@pytest.fixture(scope="module")
def truth(fleet: list[ServedProcess]) -> Truth:
    return truth_of(fleet[0].url)


@pytest.fixture(scope="module")
def many(fleet: list[ServedProcess]) -> Truth:
    return truth_of(fleet[0].url, MANY)


def port_of(replica: ServedProcess) -> int:
    return int(replica.url.rpartition(":")[2])


@pytest.mark.parametrize(
    ("example", "command", "words"),
    [
        ("envoy.yaml", envoy_command, ["--mode", "validate"]),
        ("nginx.conf", nginx_command, ["-t"]),
    ],
)
def test_the_example_is_valid(
    example: str, command: Callable[..., list[str]], words: list[str], tmp_path: Path
) -> None:
    path = placed(example, tmp_path, free_port(), [8001, 8002, 8003])
    done = subprocess.run(command(path, *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (EXAMPLES / example).read_text().count("127.0.0.1") == 4


async def test_a_rolling_restart_behind_a_proxy_fails_no_request(
    fleet: list[ServedProcess], truth: Truth, trainers: "Trainers", tmp_path: Path, long: bool,
    promise: Callable[..., None],
) -> None:  # fmt: skip
    """Three replicas are restarted one after the other, behind Envoy and behind nginx, under load:
    no request fails, neither of our client with default settings nor of OpenRLHF's and verl's own
    clients, nor by slime's rules.
    """
    ports, rounds = [port_of(replica) for replica in fleet], 3 if long else 1
    async with AsyncExitStack() as stack:
        urls = [stack.enter_context(proxying(name, ports, tmp_path)) for name in ("envoy", "nginx")]
        callers = await stack.enter_async_context(Callers())
        for url in urls:
            await trainers.add(callers, url, truth, stack)
        await add_ours(callers, [replica.url for replica in fleet], truth, stack)
        await callers.all_asked(2)
        ended = [await restarted(replica) for replica in fleet * rounds]
        await callers.all_asked(2)
        await callers.stop()
    assert ended == [0] * len(ended)
    assert not callers.lost
    counted = {f"{name}_requests": asked for name, asked in sorted(callers.asked.items())}
    promise(callers.requests, len(ended), len(callers.lost), len(callers.wrong), **counted)


async def restarted(replica: ServedProcess) -> int:
    """By SIGTERM, until it is ready again; the status that it ended with."""
    ended = await asyncio.to_thread(replica.terminate)
    replica.start()
    await asyncio.to_thread(replica.wait)
    return ended


@dataclass
class Trainers:
    """Callers of every kind that a trainer brings."""

    openrlhf: ModuleType
    verl: ModuleType

    async def add(self, callers: Callers, url: str, truth: Truth, stack: AsyncExitStack) -> None:
        session = await stack.enter_async_context(slime_session())
        callers.add("openrlhf", openrlhf_rewards(self.openrlhf, url), truth.rewards, 2)
        callers.add("verl", verl_rewards(self.verl, url), truth.scores, 2)
        callers.add("slime", slime_rewards(session, url), truth.rewards, 2)
        await add_ours(callers, url, truth, stack)


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> Trainers:
    return Trainers(openrlhf_agent(monkeypatch), verl_reward_loop(monkeypatch))


async def test_after_sigkill_in_mid_batch_our_client_gets_every_score(
    fleet: list[ServedProcess], truth: Truth, many: Truth, long: bool,
    promise: Callable[..., None],
) -> None:  # fmt: skip
    """SIGKILL of the only replica in the middle of a batch, and a new start: a client of ours with
    default settings gets every score, and the right one.
    """
    replica, kills = fleet[0], 8 if long else 1
    wrong = 0
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncRewardClient(replica.url))
        callers = await stack.enter_async_context(Callers())
        await add_ours(callers, replica.url, truth, stack)
        for _ in range(kills):
            asking = asyncio.create_task(client.score([{"text": text} for text in many.rewards]))
            await computing(replica)
            assert not asking.done()
            replica.kill()
            replica.start()
            answer = await asking
            wrong += answer.rewards != [*many.rewards.values()]
        await callers.all_asked(3)
        await callers.stop()
    assert not callers.lost
    promise(callers.requests + kills, kills, len(callers.lost), len(callers.wrong) + wrong)


async def computing(replica: ServedProcess) -> None:
    """Return once tokens are queued, and so a batch before them is computed."""
    async with httpx2.AsyncClient(base_url=replica.url) as client:

        async def are_queued() -> bool:
            return await value(client, "plaudit_queue_tokens") > 0

        await until(are_queued)


async def test_at_sigterm_readiness_goes_and_nothing_that_was_accepted_is_lost(
    fleet: list[ServedProcess], truth: Truth, many: Truth, promise: Callable[..., None]
) -> None:
    """At SIGTERM under load /readyz says no at once, while requests are still taken; a pool is told
    to leave; all that came until a load balancer noticed is answered, and the exit status is 0.
    """
    replica, told = fleet[2], list[str]()
    async with httpx2.AsyncClient(base_url=replica.url, timeout=120) as kept, Callers() as asked:
        asked.add("pool", once(kept, told), truth.rewards, 8)
        asked.add("single", once_anew(replica.url), truth.rewards, 8)
        await asked.all_asked(20)
        big = [{"text": text} for text in many.rewards]
        last = asyncio.create_task(kept.post("/score", json={"items": big}))
        await computing(replica)
        ending = asyncio.create_task(asyncio.to_thread(replica.terminate))
        await noticed(replica)
        text, reward = next(iter(truth.rewards.items()))
        told.clear()
        for ask in (once_anew(replica.url), once(kept, told)):
            assert await ask(text) == reward
        await asked.stop()
        answer = (await last).json()
        status = await ending
    assert status == 0
    assert "close" in told
    assert not asked.lost
    wrong = len(asked.wrong) + (answer["rewards"] != [*many.rewards.values()])
    promise(asked.requests + 3, 1, len(asked.lost), wrong)


async def noticed(replica: ServedProcess) -> None:
    """Return once /readyz says no, as a load balancer learns it."""
    async with httpx2.AsyncClient(base_url=replica.url) as client:

        async def is_refused() -> bool:
            return (await client.get("/readyz")).status_code != 200

        await until(is_refused)
