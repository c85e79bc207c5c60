"""Storms of clients: retries, hang-ups in mid-wait, connections cut in mid-body.

After each the server is as it was: nothing held, nothing queued, no descriptor kept, and it gives
right scores.
"""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterator
from random import Random
from urllib.parse import urlsplit

import httpx2
import pytest
from slow_server import SlowServer, sequence, slow_server

from plaudit.reward_model import RewardModel

TOKENS = 1000
AT_ONCE = 100  # connections
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: closed with RST
SECONDS = 120.0  # by which a busy machine has come to rest; what is waited for takes milliseconds


@pytest.fixture(scope="module")
def server(tmp_path_factory, save_plain, make_complete, tokenizer) -> Iterator[SlowServer]:
    directory = tmp_path_factory.mktemp("storms") / "m"
    with slow_server(directory, save_plain, make_complete, tokenizer) as found:
        ask(found, [1, 2, 3])
        yield found


@pytest.fixture
def rng(pytestconfig, request) -> Random:
    """Of each test another: what was sent in one is cached in the next."""
    return Random(f"{pytestconfig.getoption('seed')} {request.node.name}")


@pytest.fixture
def calm(server: SlowServer, rng: Random) -> Iterator[SlowServer]:
    """The server, which after the test comes back to what it was before."""
    descriptors = server.value("process_open_fds")
    yield server
    ends = time.monotonic() + SECONDS
    # The client that reads the metrics has a connection of its own, and so have idle ones.
    while not (server.is_empty() and server.value("process_open_fds") <= descriptors + 2):
        assert time.monotonic() < ends, server.value("process_open_fds")
    assert wrong(server, [sequence(rng, 50)]) == 0


def ask(server: SlowServer, ids: list[int], **headers: str) -> httpx2.Response:
    body = {"items": [{"token_ids": ids}]}
    return httpx2.post(f"{server.url}/score", json=body, headers=headers, timeout=SECONDS)


def wrong(server: SlowServer, sequences: list[list[int]]) -> int:
    """How many of the server's scores are not the model's own."""
    given = [ask(server, ids).json()["items"][0]["score"] for ids in sequences]
    true = RewardModel.load(server.model).score_all(sequences)
    return sum(bool(abs(a - b) > 1e-4) for a, b in zip(given, true, strict=True))


def test_a_storm_of_retries(calm, rng, promise, long):
    """Clients that lose patience and ask again, thousands of times, for one item cost one
    computation of it."""
    ids, count = sequence(rng, TOKENS), 10_000 if long else 1000
    body = json.dumps({"items": [{"token_ids": ids}]}).encode()
    draws = [rng.choice([1, 5, 20, 1000, 60_000]) for _ in range(count)]
    before = calm.computed()

    async def story() -> list[httpx2.Response]:
        limits = httpx2.Limits(max_connections=AT_ONCE)
        async with httpx2.AsyncClient(base_url=calm.url, limits=limits, timeout=None) as http:

            async def retry(number: int) -> httpx2.Response:
                headers = {
                    "X-Request-Deadline-Ms": str(draws[number]),
                    "X-Plaudit-Retry-Count": str(number),
                }
                return await http.post("/score", content=body, headers=headers)

            return await asyncio.gather(*map(retry, range(count)))

    answers = asyncio.run(story())
    scored = [one.json()["items"][0]["score"] for one in answers if one.status_code == 200]
    impatient = [one for one in answers if one.status_code in (503, 504)]
    assert len(scored) + len(impatient) == count
    assert len(scored) > count / 5
    assert calm.computed() - before == TOKENS
    true = RewardModel.load(calm.model).score_all([ids])[0]
    promise(
        requests=count, faults=len(impatient), lost=0,
        wrong=sum(bool(abs(score - true) > 1e-4) for score in scored), computed=1,
    )  # fmt: skip


def test_a_storm_of_hang_ups(calm, rng, promise, long):
    """Of callers that hang up while they wait, next to nothing is computed, and a caller that
    stays gets its scores."""
    patient = [sequence(rng, TOKENS) for _ in range(40)]
    storm = [sequence(rng, TOKENS) for _ in range(1000 if long else 200)]
    before = calm.computed()

    async def story() -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=calm.url, timeout=SECONDS) as http:
            body = {"items": [{"token_ids": ids} for ids in patient]}
            staying = asyncio.create_task(http.post("/score", json=body))
            while calm.computed() == before:  # the engine is busy now, and stays so
                await asyncio.sleep(0.01)
            for ids in storm:
                await asyncio.to_thread(hang_up, calm, [ids])
            return await staying

    answer = asyncio.run(story())
    given = [item["score"] for item in answer.json()["items"]]
    true = RewardModel.load(calm.model).score_all(patient)
    extra = calm.computed() - before - TOKENS * len(patient)
    assert extra < TOKENS * len(storm) / 4
    promise(
        requests=1 + len(storm), faults=len(storm), lost=0,
        wrong=sum(bool(abs(a - b) > 1e-4) for a, b in zip(given, true, strict=True)),
        computed_of_them=extra / TOKENS,
    )  # fmt: skip


def test_a_storm_of_broken_bodies(calm, rng, promise, long):
    """Connections that are cut in the middle of a body, politely or not, cost nothing and leave
    nothing behind."""
    before, count = calm.computed(), 2000 if long else 300
    for _ in range(count):
        hang_up(calm, [sequence(rng, TOKENS)], part=rng.random(), reset=rng.random() < 0.5)
    assert calm.computed() == before
    promise(requests=count, faults=count, lost=0, wrong=wrong(calm, [sequence(rng, TOKENS)]))


def hang_up(
    server: SlowServer, sequences: list[list[int]], part: float = 1.0, reset: bool = False
) -> None:
    """Send so much of a body, all by default, and close without reading."""
    at = urlsplit(server.url)
    body = json.dumps({"items": [{"token_ids": ids} for ids in sequences]}).encode()
    head = f"POST /score HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((at.hostname, at.port)) as caller:
        if reset:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        caller.sendall(head.encode() + body[: int(part * len(body))])
