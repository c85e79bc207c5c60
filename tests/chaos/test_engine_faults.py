"""The engine raises, hangs and runs out of memory.

A real server, in whose forwards marked texts fail; every score that is given is compared with the
one that the same model gives in this process.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import faulty_server
import httpx2
import pytest
from faulty_server import HANGS, LOADS, RAISES, STUMBLES
from scraped import value_in
from spawned import wait_for

from plaudit.client import RewardClient
from plaudit.reward_model import RewardModel
from service.watchdog import HOPELESS
from training.service_process import free_port

TOLERANCE = 1e-4
WORDS = ["rain", "boil", "seven", "grass", "why", "slow", "music", "salt"]


class Faulty:
    """A server that can end by itself, and be started again on its port."""

    def __init__(self, model: Path, log: Path, *flags: str, **environment: str):
        self._log, self._port = log, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        self._command = [
            *(sys.executable, faulty_server.__file__, str(model), "--port", str(self._port)),
            *("--device", "cpu", "--dtype", "float32", *flags),
        ]
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log
            )
        wait_for("the server to be ready", self._up)

    def _up(self) -> bool:
        assert self.process.poll() is None, self.log()[-2000:]
        try:
            return self.ready()
        except httpx2.TransportError:
            return False

    def post(self, items: list[str], milliseconds: int = 60_000) -> httpx2.Response:
        body = {"items": [{"text": text} for text in items]}
        deadline = {"X-Request-Deadline-Ms": str(milliseconds)}
        patience = milliseconds / 1000 + 60
        return httpx2.post(f"{self.url}/score", json=body, headers=deadline, timeout=patience)

    def ready(self) -> bool:
        return httpx2.get(f"{self.url}/readyz", timeout=60).status_code == 200

    def refuses(self) -> bool:
        """Whether it is not ready, or has ended already."""
        try:
            return not self.ready()
        except httpx2.TransportError:
            return True

    def metric(self, name: str) -> float:
        answer = httpx2.get(f"{self.url}/metrics", timeout=60)
        assert answer.status_code == 200, answer.text
        return value_in(answer.text, name)

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
def faulty(tmp_path: Path, tiny_checkpoint: Path) -> Callable[..., object]:
    """``with faulty("--flag", …, NAME="of the environment") as server``."""

    @contextmanager
    def serving(*flags: str, **environment: str) -> Iterator[Faulty]:
        server = Faulty(tiny_checkpoint, tmp_path / "log", *flags, **environment)
        try:
            yield server
        finally:
            server.process.kill()
            server.process.wait()

    return serving


def texts(rng: Random, count: int, words: int = 12) -> list[str]:
    return [" ".join(rng.choices(WORDS, k=rng.randint(2, words))) + f" {i}" for i in range(count)]


@pytest.fixture
def true_scores(tiny_checkpoint: Path) -> Callable[[list[str]], dict[str, float]]:
    model = RewardModel.load(tiny_checkpoint)
    return lambda some: dict(
        zip(some, model.score([model.encoder.text(text) for text in some]).tolist(), strict=True)
    )


def counted(answers: list[tuple[list[str], dict]], true: dict[str, float]) -> tuple[int, int]:
    """Honest items without a score, and with a wrong one."""
    lost = wrong = 0
    for asked, answer in answers:
        for text, item in zip(asked, answer["items"], strict=True):
            if text in true and "score" not in item:
                lost += 1
            elif text in true and abs(item["score"] - true[text]) > TOLERANCE:
                wrong += 1
    return lost, wrong


def test_what_raises_fails_alone(faulty, true_scores, promise, rng, long):
    """An item whose forward raises fails alone, is computed twice at most however often it is asked
    again, and everything beside it gets its exact score."""
    requests = 400 if long else 60
    honest = texts(rng, requests * 8)
    true = true_scores(honest)
    poison = [f"{RAISES} number {i}" for i in range(5)]
    asked = []
    for i in range(requests):
        items = honest[i * 8 : i * 8 + 8]
        items.insert(rng.randrange(9), rng.choice(poison))
        asked.append(items)
    with faulty("--linger-ms", "20") as server, ThreadPoolExecutor(8) as callers:
        answers = [
            *zip(asked, (one.json() for one in callers.map(server.post, asked)), strict=True)
        ]
        faults = server.log().count('"event": "engine fault"')
        held = server.metric("plaudit_quarantined_items")
        refused = server.metric("plaudit_quarantine_refusals_total")
        ready = server.ready()
    kinds = [
        item["error"]["type"]
        for items, answer in answers
        for text, item in zip(items, answer["items"], strict=True)
        if text in poison
    ]
    assert set(kinds) == {"engine-fault", "quarantined"}
    assert held == faults == 5
    assert refused == kinds.count("quarantined")
    assert ready
    lost, wrong = counted(answers, true)
    promise(requests=requests, faults=len(kinds), lost=lost, wrong=wrong)


def test_a_fault_that_passes_costs_no_item_its_score(faulty, true_scores):
    """Though the item was alone in the forward that failed."""
    with faulty() as server:
        answer = server.post([STUMBLES]).json()
        held = server.metric("plaudit_quarantined_items")
        stumbled = server.log().count("a forward of")
    assert counted([([STUMBLES], answer)], true_scores([STUMBLES])) == (0, 0)
    assert (stumbled, held) == (1, 0)


def test_what_never_fits_becomes_the_items_own_error_while_our_client_asks_again(
    faulty, true_scores
):
    """It has ``capacity`` at first, after which a client asks again; then it is refused at once."""
    large, small = {"text": "salt " * 60}, {"text": "rain"}
    with faulty(FORWARD_TOKENS="200") as server:
        alone = server.post(["salt " * 60])
        with RewardClient(server.url, retry_faults=True) as client:
            found = client.score([large, small])
        faults = server.log().count('"event": "engine fault"')
        again = server.post(["salt " * 60, "rain"]).json()
        assert server.log().count('"event": "engine fault"') == faults
        held = server.metric("plaudit_quarantined_items")
    assert alone.status_code == 503
    assert alone.json()["type"].endswith("capacity")
    error = found.items[0].error
    assert error.type == again["items"][0]["error"]["type"] == "quarantined"
    assert error.detail.startswith("there was no memory for it by itself, 3 times in a row; ")
    assert found.rewards[0] is None
    assert counted([(["salt " * 60, "rain"], again)], true_scores(["rain"])) == (0, 0)
    assert held == 1


def test_without_memory_forwards_shrink(faulty, true_scores, promise, rng, long):
    """Where memory runs out, forwards shrink until they fit and every item gets its exact score;
    only one that does not fit by itself is refused, as a 503 where nothing else was asked."""
    rounds = 20 if long else 3
    large = [f"{i} " + "salt " * 60 for i in range(rounds + 1)]
    lost = wrong = 0
    with faulty("--max-batch-tokens", "4096", FORWARD_TOKENS="200") as server:
        for i in range(rounds):
            honest = [f"{rng.random()} {text}" for text in texts(rng, 120)]
            answer = server.post([*honest, large[i]])
            assert answer.json()["items"][-1]["error"]["type"] == "capacity"
            found = counted([([*honest, large[i]], answer.json())], true_scores(honest))
            lost, wrong = lost + found[0], wrong + found[1]
        alone = server.post(large[-1:])
        budget = server.metric("plaudit_batch_token_budget")
        held = server.metric("plaudit_quarantined_items")
        faults = server.log().count("OutOfMemoryError")
    assert (alone.status_code, alone.json()["type"].split("#")[1]) == (503, "capacity")
    assert alone.headers["retry-after"]
    assert alone.json()["retryable"]
    assert budget <= 512
    assert held == 0
    promise(requests=rounds * 121, faults=faults, lost=lost, wrong=wrong)


def test_memory_that_really_ends(faulty, true_scores, promise, rng, long):
    """A process that may have no more memory than it has, by a limit of the kernel, goes on with
    smaller forwards; every item gets its exact score."""
    honest = texts(rng, 1600 if long else 800, words=80)
    true = true_scores(honest)
    flags = ("--max-batch-tokens", "262144", "--prefix-cache-megabytes", "0")
    with faulty(*flags, "--deadline-seconds", "600") as server:
        server.post(texts(rng, 50))
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        used = 1024 * int(status.partition("VmSize:")[2].split()[0])
        room = used + 48 * 2**20
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (room, room))
        answer = server.post(honest, milliseconds=500_000)
        assert answer.status_code == 200, answer.text
        budget = server.metric("plaudit_batch_token_budget")
        log = server.log()
        ready = server.ready()
    assert budget < 262144
    assert ready
    lost, wrong = counted([(honest, answer.json())], true)
    promise(requests=len(honest), faults=log.count("a forward of"), lost=lost, wrong=wrong)


def test_a_hang_ends_the_process(faulty, true_scores, promise, rng, long):
    """A forward that never ends makes the replica unready, is answered at its deadline, and ends
    the process with 70; a client that waits for the next process loses nothing."""
    rounds = 4 if long else 1
    honest = texts(rng, 20 * rounds)
    true = true_scores(honest)
    answers = []
    with (
        faulty("--canary-seconds", "0.25", "--hang-seconds", "6") as server,
        ThreadPoolExecutor(2) as callers,
        RewardClient(server.url, timeout_seconds=600) as client,
    ):
        for i in range(rounds):
            part = honest[i * 20 : i * 20 + 20]
            hung = server.post([HANGS], milliseconds=1000)
            assert (hung.status_code, hung.json()["type"].split("#")[1]) == (504, "deadline")
            waiting = callers.submit(client.score, [{"text": text} for text in part])
            wait_for("/readyz to say no, or nothing", server.refuses)
            assert server.process.wait(120) == HOPELESS
            assert "a forward has not ended" in server.log()
            server.start()
            scored = waiting.result(300)
            answers.append((part, {"items": [{"score": one.score} for one in scored.items]}))
    lost, wrong = counted(answers, true)
    promise(requests=len(honest) + rounds, faults=rounds, lost=lost, wrong=wrong)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_process_that_still_loads(tiny_checkpoint, number, status):
    """At once: this one would load for ever."""
    process = subprocess.Popen(
        [sys.executable, faulty_server.__file__, str(tiny_checkpoint), "--port", str(free_port())],
        env=os.environ | {"OMP_NUM_THREADS": "1", "LOADS_FOREVER": "1"},
        stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job may ignore it
    )  # fmt: skip
    try:
        assert process.stderr
        assert any(LOADS in line for line in process.stderr)
        process.send_signal(number)
        assert process.wait(60) == status
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
