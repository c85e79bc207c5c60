"""A collector of traces that hangs, dies or was never there.

Spans are sent by a thread of their own. What cannot be sent is dropped and counted, in
``plaudit_spans_total``; no score waits for it.
"""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import httpx2
import pytest
from known_scores import COMPUTING
from served_process import ServedProcess

from plaudit import RewardClient
from service import timings

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs plaudit[otel]")

from service import span_queue

Pairs = list[tuple[str, str]]
# Of a request that is computed, at the least.
SPANS = 8
WORDS = ("egg", "planet", "sky", "yolk", "blue", "water", "because", "never")


class Hanging:
    """Takes connections and whatever is sent, and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                self.taken.append(self._socket.accept()[0])
            except OSError:  # closed
                return

    def close(self) -> None:
        """As a collector that is killed: connections are reset, and nothing listens."""
        with suppress(OSError):  # closed before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for one in self.taken:
            one.close()


@contextmanager
def serving(model: Path, *flags: str) -> Iterator[ServedProcess]:
    server = ServedProcess([model], *COMPUTING, *flags)
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def drawn(rng: Random, count: int) -> Pairs:
    return [(" ".join(rng.choices(WORDS, k=4)), " ".join(rng.choices(WORDS, k=6)))
            for _ in range(count)]  # fmt: skip


def ask(url: str, pairs: Pairs) -> tuple[list[float | None], list[float]]:
    """Rewards and seconds of requests of one pair each."""
    rewards: list[float | None] = []
    seconds = []
    with RewardClient(url) as client:
        for pair in pairs:
            began = time.perf_counter()
            rewards += client.score([pair]).rewards
            seconds.append(time.perf_counter() - began)
    return rewards, seconds


def spans(url: str) -> dict[str, float]:
    text = httpx2.get(f"{url}/metrics", timeout=60).text
    found = re.findall(r'^plaudit_spans_total\{result="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {result: float(count) for result, count in found}


def percentile(seconds: list[float], share: float) -> float:
    return 1000 * sorted(seconds)[int(share * (len(seconds) - 1))]


@pytest.fixture(scope="module")
def asked(pytestconfig: pytest.Config, long: bool) -> Pairs:
    return drawn(Random(pytestconfig.getoption("seed")), 4000 if long else 300)


@pytest.fixture(scope="module")
def untraced(members: list[Path], asked: Pairs) -> tuple[list[float | None], list[float]]:
    """Rewards, and seconds of each request, of a server that makes no traces."""
    with serving(members[0]) as server:
        return ask(server.url, asked)


@pytest.mark.parametrize("fault", ["hangs", "is killed", "was never there"])
def test_scores_do_not_wait_for_a_collector(fault, members, promise, asked, untraced, long):
    """Whether the collector of traces hangs, is killed or was never there, every score is right,
    spans that find no room are dropped and counted, and SIGTERM ends the process in time."""
    if fault != "hangs" and not long:
        pytest.skip("each starts a server: make chaos")
    collector, half = Hanging(), len(asked) // 2
    if fault == "was never there":
        collector.close()
    with serving(members[0], "--otlp-endpoint", collector.url) as server:
        first, took = ask(server.url, asked[:half])
        if fault == "is killed":
            collector.close()
        second, later = ask(server.url, asked[half:])
        counted = spans(server.url)
        began = time.perf_counter()
        ended = server.terminate()
        stopping = time.perf_counter() - began
    collector.close()

    assert ended == 0
    assert stopping < timings.DRAIN_SECONDS + timings.CLOSE_SECONDS
    assert counted["sent"] == 0
    assert sum(counted.values()) > SPANS * len(asked) - span_queue.WAITING
    true, alone = untraced
    promise(
        requests=len(asked),
        faults=1,
        lost=(first + second).count(None),
        wrong=sum(one != other for one, other in zip(first + second, true, strict=True)),
        p99_ms=round(percentile(took + later, 0.99), 1),
        p99_ms_without_traces=round(percentile(alone, 0.99), 1),
        spans_not_sent=sum(counted.values()),
        stopping_seconds=round(stopping, 1),
    )
