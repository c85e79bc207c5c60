"""A server under rollout traffic: a storm of one-item callers, and the same items asked again; then
every load of bench/loads.py, and it again, from the cache.

    python bench/server.py [--model runs/demo/warm] [--data ../shared/data] [--callers 512]

On the CPU. Starts ``plaudit serve`` on a free port and stops it at the end. The limit of the storm
is the same model scoring the same items in one call, without a server, just before.
"""

import argparse
import asyncio
import json
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from contestants import MAX_BATCH_TOKENS
from loads import LOADS, Row, load, rows

from plaudit import AsyncRewardClient
from plaudit.conversation import Encoder
from plaudit.reward_model import RewardModel
from training.service_process import free_port

IN_A_REQUEST = 64
PLAUDIT = ("-m", "plaudit.cli", "serve")


Pair = tuple[Row, list[int]]


def items_of(data: Path, encoder: Encoder, count: int) -> list[Pair]:
    """Chosen and rejected of real conversations as items of ``POST /score``, with their ids; those
    too long for the model are left out."""
    found: list[Pair] = []
    for row in rows(data / "hh_helpful.jsonl.gz"):
        for response in (row["chosen"], row["rejected"]):
            ids = encoder.pair(row["prompt"], response)
            if len(ids) <= encoder.max_tokens:
                found.append(({"prompt": row["prompt"], "response": response}, ids))
        if len(found) >= count:
            break
    return found[:count]


def alone(engine: RewardModel, sequences: list[list[int]]) -> float:
    """Seconds that the engine needs without a server."""
    engine.score_all(sequences[:4], MAX_BATCH_TOKENS)
    began = time.perf_counter()
    engine.score_all(sequences, MAX_BATCH_TOKENS)
    return time.perf_counter() - began


@contextmanager
def serving(
    model: Path, dtype: str, *flags: str, program: Sequence[str] = PLAUDIT
) -> Iterator[int]:
    """The port of a server that starts."""
    port = free_port()
    command = [
        sys.executable, *program, str(model), "--port", str(port),
        "--device", "cpu", "--dtype", dtype, "--max-batch-tokens", str(MAX_BATCH_TOKENS),
        "--deadline-seconds", "600", "--log-level", "warning", *flags,
    ]  # fmt: skip
    server = subprocess.Popen(command)
    try:
        yield port
    finally:
        server.terminate()
        server.wait()


async def storm(url: str, items: Sequence[Row]) -> tuple[float, list[float]]:
    """One caller for each item, all at once: the whole time, and that of each."""

    async def call(client: AsyncRewardClient, item: Row) -> float:
        began = time.perf_counter()
        answer = await client.score([(item["prompt"], item["response"])])
        answer.raise_for_errors()
        return time.perf_counter() - began

    async with AsyncRewardClient(url, concurrency=len(items), timeout_seconds=600) as client:
        await client.wait_ready(300)
        began = time.perf_counter()
        latencies = await asyncio.gather(*(call(client, item) for item in items))
        return time.perf_counter() - began, list(latencies)


def repeat(port: int, bodies: list[bytes], connections: int, seconds: float) -> list[float]:
    """Latencies of requests, one after another on each connection, for some seconds.

    Over plain sockets: the client shares the machine, and an HTTP library's time would be measured.
    """
    requests = [request_of(body) for body in bodies]

    def one(offset: int) -> list[float]:
        found: list[float] = []
        with socket.create_connection(("127.0.0.1", port)) as connection:
            until = time.perf_counter() + seconds
            while (began := time.perf_counter()) < until:
                connection.sendall(requests[(offset + len(found)) % len(requests)])
                content = answer(connection)
                found.append(time.perf_counter() - began)
        assert json.loads(content)["usage"]["computed_tokens"] == 0, "not from the cache"
        return found

    with ThreadPoolExecutor(connections) as pool:
        return [one for found in pool.map(one, range(connections)) for one in found]


def request_of(body: bytes) -> bytes:
    return b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def answer(connection: socket.socket) -> bytes:
    """The body of an answer that must be a 200."""
    received = connection.recv(1 << 20)
    while b"\r\n\r\n" not in received:
        received += connection.recv(1 << 20)
    head, _, content = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length
    while len(content) < int(length[1]):
        content += connection.recv(1 << 20)
    return content


def quantiles(latencies: list[float]) -> str:
    p50, p99 = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]
    return f"p50 {p50 * 1e3:,.2f} ms, p99 {p99 * 1e3:,.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("runs/demo/warm"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--callers", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3, help="storms, each on a new server")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load from the cache")
    parser.add_argument("--size", type=int, default=4, help="prompts of 16 in a load")
    options = parser.parse_args()
    engine = RewardModel.load(options.model, "cpu", options.dtype)
    items, sequences = zip(*items_of(options.data, engine.encoder, options.callers), strict=True)
    tokens = sum(map(len, sequences))
    shares = []
    for number in range(1, options.repeats + 1):
        seconds = alone(engine, list(sequences))
        with serving(options.model, options.dtype) as port:
            wall, latencies = asyncio.run(storm(f"http://127.0.0.1:{port}", items))
            shares.append(seconds / wall)
            print(
                f"storm of {len(items)} one-item callers, {tokens:,} tokens: "
                f"{tokens / wall:,.0f} tokens/s, {shares[-1]:.2f} of the engine alone just before, "
                f"{quantiles(latencies)}",
                flush=True,
            )
            if number == options.repeats:
                again(port, items, options.seconds)
                loads_again(port, engine.encoder, options)
    print(f"median share of the engine alone: {statistics.median(shares):.2f}")


def again(port: int, items: Sequence[Row], seconds: float) -> None:
    """The same items from the cache."""
    for size, connections in ((1, 1), (1, 8), (IN_A_REQUEST, 1), (IN_A_REQUEST, 2)):
        found = repeat(port, bodies_of(items, size), connections, seconds)
        print(
            f"cached, {size} a request, {connections} connections: "
            f"{size * len(found) / seconds:,.0f} items/s, {quantiles(found)}"
        )


def loads_again(port: int, encoder: Encoder, options: argparse.Namespace) -> None:
    """Every load as token ids: computed once, and then from the cache, on one connection."""
    for name in LOADS:
        items = [{"token_ids": ids} for ids in load(name, encoder, options.data, options.size)]
        if not items:
            print(f"cached, {name}: none within the model's {encoder.max_tokens} tokens")
            continue
        bodies = bodies_of(items, IN_A_REQUEST)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for body in bodies:
                connection.sendall(request_of(body))
                answer(connection)
        found = repeat(port, bodies, 1, options.seconds)
        rate = len(found) / len(bodies) * len(items) / options.seconds
        print(f"cached, {name}, {len(items)} items: {rate:,.0f} items/s, {quantiles(found)}")


def bodies_of(items: Sequence[Row], size: int) -> list[bytes]:
    """Requests of ``size`` items each."""
    parts = [items[i : i + size] for i in range(0, len(items), size)]
    return [json.dumps({"items": part}).encode() for part in parts]


if __name__ == "__main__":
    main()
