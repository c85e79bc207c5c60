"""More load than can be served.

A real server over a small model on one thread, and clients that send at a rate of their own,
whatever the server does (open loop), each request with a deadline.
"""

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from random import Random
from urllib.parse import urlsplit

import httpx2
import pytest
from slow_server import SlowServer, sequence, slow_server

from plaudit.client.retry import REAL_CLOCK
from plaudit.reward_model import RewardModel
from service.bench.arrivals import offsets
from service.bench.open_loop import OK, Answer, drive

KEYS = {"greedy": "key-of-greedy", "modest": "key-of-modest"}
ITEMS, TOKENS = 4, 250  # of a request: half a forward
TIMES = 10
GREEDY = 50  # connections
PROBE_SECONDS = 0.02


@pytest.fixture(scope="module")
def server(tmp_path_factory, save_plain, make_complete, tokenizer) -> Iterator[SlowServer]:
    flags = ("--api-keys", ",".join(f"{name}:{key}" for name, key in KEYS.items()))
    directory = tmp_path_factory.mktemp("overload") / "m"
    with slow_server(directory, save_plain, make_complete, tokenizer, *flags) as found:
        yield found


@pytest.fixture
def rng(pytestconfig, request) -> Random:
    """Of each test another: what was sent in one is cached in the next."""
    return Random(f"{pytestconfig.getoption('seed')} {request.node.name}")


class Client:
    """Sends what was never sent before, and keeps what was answered."""

    def __init__(self, server: SlowServer, rng: Random, name: str = "greedy", priority="train"):
        headers = {"Authorization": f"Bearer {KEYS[name]}", "X-Priority": priority}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx2.AsyncClient(
            base_url=server.url, headers=headers, limits=limits, timeout=None
        )
        self._rng = rng
        self.sent: list[list[list[int]]] = []
        self.scores: dict[int, list[float]] = {}
        self.seconds: list[float] = []

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, number: int, allowed: float) -> Answer:
        items = [{"token_ids": ids} for ids in self.sent[number]]
        header = {"X-Request-Deadline-Ms": str(int(allowed * 1000))}
        began = time.perf_counter()
        answer = await self._http.post("/score", json={"items": items}, headers=header)
        self.seconds.append(time.perf_counter() - began)
        if answer.status_code != 200:
            return Answer(answer.json()["type"].rpartition("#")[2], answer.status_code)
        self.scores[number] = [item["score"] for item in answer.json()["items"]]
        return Answer(OK, items=ITEMS)

    def next(self, items: int = ITEMS) -> int:
        self.sent.append([sequence(self._rng, TOKENS) for _ in range(items)])
        return len(self.sent) - 1

    async def again_and_again(self, until: threading.Event) -> None:
        while not until.is_set():
            assert (await self.ask(self.next(), 90)).outcome == OK


async def capacity(client: Client, seconds: float) -> float:
    """Requests a second of a few callers that wait for their answers."""
    over = threading.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    began = time.perf_counter()
    await asyncio.gather(*(client.again_and_again(over) for _ in range(8)))
    return len(client.scores) / (time.perf_counter() - began)


@contextmanager
def probed(server: SlowServer) -> Iterator[list[float]]:
    """Seconds of questions to both ports whether the server lives and is ready, meanwhile."""
    over, found = threading.Event(), []

    def ask() -> None:
        connections = [HTTPConnection(urlsplit(url).netloc) for url in (server.url, server.admin)]
        while not over.wait(PROBE_SECONDS):
            for connection in connections:
                for path in ("/livez", "/readyz"):
                    began = time.perf_counter()
                    connection.request("GET", path)
                    response = connection.getresponse()
                    response.read()
                    found.append(time.perf_counter() - began if response.status == 200 else 1e9)
        for connection in connections:
            connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def wrong(server: SlowServer, client: Client, numbers: list[int]) -> int:
    """How many scores are not those of the model itself."""
    asked = [ids for number in numbers for ids in client.sent[number]]
    given = [score for number in numbers for score in client.scores[number]]
    true = RewardModel.load(server.model).score_all(asked, 4096)
    return sum(bool(abs(a - b) > 1e-4) for a, b in zip(given, true, strict=True))


def test_ten_times_the_load(server, rng, promise, long):
    """At ten times the load it can serve, a server computes nearly only what is answered in time,
    refuses the rest with 503 in time and at no cost, answers its probes, and its memory is flat."""

    async def story():
        async with Client(server, rng) as first:
            rate = await capacity(first, 10 if long else 2)
        allowed = max(2.0, 24 / rate)  # what it serves meanwhile, however fast the machine is
        async with Client(server, rng) as client:
            due = offsets(
                "poisson", TIMES * rate, (8 if long else 2) * allowed, seed=rng.randrange(9999)
            )
            numbers = [client.next() for _ in due]
            before = watched(server)
            with probed(server) as probes:
                samples = await drive(
                    due, lambda n: client.ask(numbers[n], allowed), len(due), REAL_CLOCK
                )
            spent = [after - b for after, b in zip(watched(server), before, strict=True)]
        return samples, client, rate, sorted(probes), spent

    samples, client, rate, probes, (computed, busy, rss) = asyncio.run(story())
    good = [one for one in samples if one.answer.outcome == OK]
    refused = [one for one in samples if one.answer.outcome == "overloaded"]
    late = [one for one in samples if one.answer.outcome == "deadline"]
    seconds = max(one.done for one in samples)
    assert len(good) + len(refused) + len(late) == len(samples)
    assert refused
    tokens = ITEMS * TOKENS
    assert tokens * len(good) <= computed <= tokens * (len(good) + len(late))
    assert tokens * len(good) > (0.6 if long else 0.2) * computed
    goodput = len(good) / seconds / rate
    p99 = probes[int(0.99 * len(probes))]
    if long:  # in seconds, beside others, a machine may be a fraction as fast as it was before
        assert len(refused) > 2 * len(good)
        assert goodput > 0.6
        assert busy > 0.7 * seconds
        assert p99 < 0.5
    assert rss < 100e6
    some = sorted(client.scores)[:: max(1, len(client.scores) // 8)]
    promise(
        requests=len(samples), faults=len(refused), lost=0, wrong=wrong(server, client, some),
        goodput_of_capacity=goodput,
        answered_of_computed=tokens * len(good) / computed, probes_p99_ms=1000 * p99,
        memory_growth_mb=rss / 1e6,
    )  # fmt: skip


def watched(server: SlowServer) -> tuple[float, float, float]:
    """Tokens computed, seconds that the engine was busy, bytes of memory."""
    return (
        server.computed(),
        server.value("plaudit_worker_busy_seconds_total"),
        server.value("process_resident_memory_bytes"),
    )


@pytest.mark.parametrize(
    ("flood", "calm"),
    [(("greedy", "train"), ("modest", "train")), (("greedy", "offline"), ("greedy", "train"))],
    ids=["clients", "priorities"],
)
def test_a_modest_caller_beside_a_flood(server, rng, promise, long, flood, calm):
    """A client with one item at a time hardly waits for another with fifty requests, nor training
    for a flood of offline work."""

    async def beside(many: Client, one: Client, over: threading.Event) -> None:
        flooding = [asyncio.create_task(many.again_and_again(over)) for _ in range(GREEDY)]
        while len(many.scores) < GREEDY:
            await asyncio.wait(flooding, timeout=0.1)
            for task in flooding:
                if task.done():
                    task.result()  # why it ended: it should not have
        del many.seconds[:]
        for _ in range(50 if long else 8):
            assert (await one.ask(one.next(), 90)).outcome == OK
        over.set()
        await asyncio.gather(*flooding)

    async def story() -> tuple[Client, Client]:
        over = threading.Event()
        async with Client(server, rng, *flood) as many, Client(server, rng, *calm) as one:
            await beside(many, one, over)
        return many, one

    many, one = asyncio.run(story())
    waits = statistics.median(many.seconds), statistics.median(one.seconds)
    assert waits[1] < waits[0] / 2
    promise(
        requests=len(many.scores) + len(one.scores), faults=GREEDY, lost=0,
        wrong=wrong(server, one, sorted(one.scores)[:4]),
        median_ms_of_the_flood=1000 * waits[0], median_ms_beside_it=1000 * waits[1],
    )  # fmt: skip
