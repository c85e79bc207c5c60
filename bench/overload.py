"""What a server does with more than it can do: load beyond its capacity, open loop.

    python bench/overload.py MODEL [--multiples 0.5 0.8 1 1.5 2 4 10] [--seconds 15]
        [--deadline 3] [--items 1] [--tokens 200] [--json overload.json] [--plot overload.svg]

Starts ``plaudit serve`` on free ports and stops it at the end. Capacity is measured first, with a
few callers that wait for their answers. Then requests are sent at multiples of it, whatever the
server does, each with a deadline. Goodput counts items whose scores came within it, from the time
at which the request was meant to be sent. Every text is another, so that nothing is cached. Beside
the load, from a process of its own, both ports are asked whether they live and are ready.
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from http.client import HTTPConnection
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from matplotlib.figure import Figure

from plaudit.client.retry import REAL_CLOCK
from service.bench.arrivals import offsets
from service.bench.open_loop import OK, Sample, drive
from service.bench.sending import Sender
from service.bench.summary import quantile
from training.drawing import svg
from training.service_process import free_port, serving

# A word of these is a token or two for most tokenizers.
WORDS = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child",
    "world", "school", "state", "family", "student", "group", "country", "problem", "hand", "part",
]  # fmt: skip
# Enough callers to fill a forward, few enough that none waits for long.
CLOSED_CALLERS = 16
PROBE_PAUSE_SECONDS = 0.02
PROBES = ("/livez", "/readyz")


@dataclass(frozen=True)
class Row:
    """What was seen at one offered load. Rates are items a second, ``cpu`` is the client's share
    of a core; ``rss_mb`` is the server's at the end of the load."""

    multiple: float
    offered: float
    goodput: float
    p50_ms: float
    p99_ms: float
    outcomes: dict[str, int]
    computed_tokens: float
    rss_mb: float
    probe_p99_ms: float
    cpu: float


@dataclass(frozen=True)
class Seen:
    """Of one load, from its begin to its last answer: seconds, the client's own of a core, tokens
    computed, the server's memory, and how long each probe took."""

    seconds: float
    cpu_seconds: float
    computed_tokens: float
    rss_bytes: float
    probes: list[float]


def main() -> None:
    options = read_options()
    admin = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        flags = [
            *("--admin-port", str(admin), "--max-batch-tokens", str(options.max_batch_tokens)),
            *("--dtype", "float32", "--device", "cpu", "--threads", "1"),
            # It grows to its bound with what is sent, and would hide whether anything else does.
            *("--prefix-cache-megabytes", "0"),
        ]
        with serving(options.model, Path(scratch) / "log", *flags) as url:
            rows = asyncio.run(sweep(url, f"http://127.0.0.1:{admin}", options))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if options.plot:
        options.plot.write_text(svg(partial(draw, rows), width=10, height=3.6))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--multiples", type=float, nargs="+", default=[0.5, 0.8, 1.0, 1.5, 2.0, 4.0, 10.0]
    )
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--deadline", type=float, default=3.0)
    parser.add_argument("--items", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--max-batch-tokens", type=int, default=1024)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


async def sweep(url: str, admin: str, options: argparse.Namespace) -> list[Row]:
    bodies = Bodies(options.items, options.tokens)
    capacity = await closed_loop(url, bodies, options.seconds / 2) * options.items
    print(f"capacity: {capacity:.1f} items/s, {options.items} in a request\n", flush=True)
    print("| load | offered | goodput | p50 ms | p99 ms | RSS MB | probes p99 ms | outcomes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for multiple in options.multiples:
        row = await at_rate(url, admin, bodies, multiple, capacity, options)
        print(line(row), flush=True)
        rows.append(row)
    best = max(rows, key=lambda row: row.goodput)
    print(f"\nthe knee: {best.goodput:.1f} items/s at {best.multiple:g} times capacity; at "
          f"{rows[-1].multiple:g} times {rows[-1].goodput / best.goodput:.0%} of it; the client "
          f"took at most {max(row.cpu for row in rows):.0%} of a core")  # fmt: skip
    return rows


class Bodies:
    """Requests of ``items`` texts of about ``tokens`` tokens, no two alike."""

    def __init__(self, items: int, tokens: int):
        self._items, self._tokens = items, tokens
        self._random = random.Random(0)

    def one(self) -> bytes:
        texts = [self._random.choices(WORDS, k=self._tokens) for _ in range(self._items)]
        return json.dumps({"items": [{"text": " ".join(words)} for words in texts]}).encode()


async def closed_loop(url: str, bodies: Bodies, seconds: float) -> float:
    """Requests a second of callers that wait for their answers."""
    sender = Sender(url, None, 60.0)
    ends = time.perf_counter() + seconds

    async def caller() -> int:
        count = 0
        while time.perf_counter() < ends:
            answer = await sender.post("/score", bodies.one())
            assert answer.outcome == OK, answer
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(caller() for _ in range(CLOSED_CALLERS)))
    took = time.perf_counter() - began
    await sender.close()
    return sum(counts) / took


async def at_rate(
    url: str,
    admin: str,
    bodies: Bodies,
    multiple: float,
    capacity: float,
    options: argparse.Namespace,
) -> Row:
    due = offsets("poisson", multiple * capacity / options.items, options.seconds, seed=1)
    ready = [bodies.one() for _ in due]
    sender = Sender(url, None, options.deadline)
    before, cpu = await tokens_computed(admin), cpu_seconds()
    began = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as beside:
        probing = asyncio.get_running_loop().run_in_executor(
            beside, probe, [url, admin], options.seconds
        )
        samples = await drive(
            due, lambda n: sender.post("/score", ready[n]), sender.connections, REAL_CLOCK
        )
        took, spent = time.perf_counter() - began, cpu_seconds() - cpu
        rss = await value(admin, "process_resident_memory_bytes")
        probes = await probing
    await sender.close()
    computed = await tokens_computed(admin) - before
    return row_of(multiple, samples, Seen(took, spent, computed, rss, probes), options)


def row_of(multiple: float, samples: list[Sample], seen: Seen, options: argparse.Namespace) -> Row:
    good = [one for one in samples if one.answer.outcome == OK and one.latency <= options.deadline]
    latencies = sorted(one.latency for one in good) or [float("nan")]
    return Row(
        multiple=multiple,
        offered=len(samples) * options.items / options.seconds,
        goodput=len(good) * options.items / seen.seconds,
        p50_ms=1000 * statistics.median(latencies),
        p99_ms=1000 * quantile(latencies, 0.99),
        outcomes=dict(Counter(one.answer.outcome for one in samples).most_common()),
        computed_tokens=seen.computed_tokens,
        rss_mb=seen.rss_bytes / 1e6,
        probe_p99_ms=1000 * quantile(sorted(seen.probes), 0.99),
        cpu=seen.cpu_seconds / seen.seconds,
    )


def probe(urls: list[str], seconds: float) -> list[float]:
    """Seconds that each question took whether the server lives and is ready, on kept connections;
    it fails at the first that is not answered 200."""
    connections = [HTTPConnection(urlsplit(url).netloc) for url in urls]
    ends, found = time.perf_counter() + seconds, []
    while time.perf_counter() < ends:
        for connection in connections:
            for path in PROBES:
                began = time.perf_counter()
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                found.append(time.perf_counter() - began)
                assert response.status == 200, (path, response.status)
        time.sleep(PROBE_PAUSE_SECONDS)
    return found


async def tokens_computed(admin: str) -> float:
    return await value(admin, 'plaudit_tokens_total{kind="computed"}')


async def value(admin: str, series: str) -> float:
    async with httpx2.AsyncClient(timeout=60) as http:
        text = (await http.get(f"{admin}/metrics")).text
    return sum(float(row.split()[-1]) for row in text.splitlines() if row.startswith(f"{series} "))


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def line(row: Row) -> str:
    said = ", ".join(f"{count} {outcome}" for outcome, count in row.outcomes.items())
    return (
        f"| {row.multiple:g} | {row.offered:.1f} | {row.goodput:.1f} | {row.p50_ms:.0f} | "
        f"{row.p99_ms:.0f} | {row.rss_mb:.0f} | {row.probe_p99_ms:.1f} | {said} |"
    )


def draw(rows: list[Row], figure: Figure) -> None:
    goodput, latency = figure.subplots(1, 2)
    offered = [row.offered for row in rows]
    best = max(row.goodput for row in rows)
    goodput.plot(offered, [row.goodput for row in rows], "o-", label="answered in time")
    goodput.axhline(0.8 * best, linestyle="--", color="grey", label="80 % of the best")
    goodput.set(xlabel="items offered a second", ylabel="items a second", ylim=(0, 1.1 * best))
    goodput.legend()
    latency.plot(offered, [row.p50_ms for row in rows], "o-", label="p50")
    latency.plot(offered, [row.p99_ms for row in rows], "o-", label="p99")
    latency.plot(offered, [row.probe_p99_ms for row in rows], "o-", label="p99 of probes")
    latency.set(xlabel="items offered a second", ylabel="milliseconds", yscale="log")
    latency.legend()
    for axis in (goodput, latency):
        axis.grid(alpha=0.3)


if __name__ == "__main__":
    main()
