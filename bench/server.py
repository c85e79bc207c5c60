"""Many one-item callers against one server: requests per second and latency, cold and cached.

    python bench/server.py [--model runs/demo/warm] [--callers 64] [--requests 512]

Starts ``plaudit serve`` on a free port and stops it at the end.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from plaudit import AsyncRewardClient


async def load(url: str, callers: int, requests: int) -> list[float]:
    """Seconds of each request; ``callers`` of them are always under way."""
    waiting = iter(range(requests))
    found = []

    async def caller(client: AsyncRewardClient) -> None:
        for i in waiting:
            began = time.perf_counter()
            answer = await client.score([(f"Question {i // 8}?", f"Answer {i} is this one.")])
            answer.raise_for_errors()
            found.append(time.perf_counter() - began)

    async with AsyncRewardClient(url, concurrency=callers) as client:
        await client.wait_ready(300)
        await asyncio.gather(*(caller(client) for _ in range(callers)))
    return found


def report(name: str, latencies: list[float], wall: float) -> None:
    p50, p99 = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]
    rate = len(latencies) / wall
    print(f"{name:7} {rate:8.1f} requests/s   p50 {p50 * 1e3:7.1f} ms   p99 {p99 * 1e3:7.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("runs/demo/warm"))
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--requests", type=int, default=512)
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "plaudit.cli", "serve", options.model, "--port", str(port)]
    server = subprocess.Popen([*command, "--log-level", "warning"])
    try:
        for name in ("cold", "cached"):
            began = time.perf_counter()
            url = f"http://127.0.0.1:{port}"
            latencies = asyncio.run(load(url, options.callers, options.requests))
            report(name, latencies, time.perf_counter() - began)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
