"""The simulated replica beside a real server, under the same open-loop load.

    python bench/fleet_against_server.py --model runs/demo/warm [--loads 0.3 0.6 0.8]
        [--requests 150] [--paced]

Starts ``plaudit serve`` with one thread, and sends requests of four responses to one prompt at
random times, at a rate that is meant to keep the engine busy for such a part of the time. The
simulation gets the same requests at the same times. Only its speed is fitted, by one factor: its
engine is to be busy as long as the server's was, by the server's own metrics. What is compared is
therefore the queue: how long callers wait at that utilisation.

With ``--paced`` forwards take the time of the fitted costs and compute nothing
(bench/fleet_paced_server.py): nothing is fitted then, and other work on the machine matters little.
"""

import argparse
import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import numpy as np
from fleet_replica import Costs, Limits, Request
from fleet_routes import least_loaded
from fleet_run import Fleet, run, wait
from fleet_traffic import Bursts
from server import PLAUDIT, serving

from plaudit import AsyncRewardClient

RESPONSES = 4
BUSY = re.compile(r"^plaudit_worker_busy_seconds_total (\S+)", re.MULTILINE)
FITTINGS = 8
FLAGS = ("--threads", "1", "--cache-megabytes", "0", "--prefix-cache-megabytes", "0")
LIMITS = Limits(prefix_tokens=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--costs", type=Path, default=Path(__file__).with_name("fleet_costs.json"))
    parser.add_argument("--loads", type=float, nargs="+", default=[0.3, 0.6, 0.8])
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--paced", action="store_true", help="forwards take the fitted time")
    options = parser.parse_args()
    print("busy | server p50, p90, p99 s | simulation p50, p90, p99 s | factor of speed")
    paced = (str(Path(__file__).with_name("fleet_paced_server.py")), str(options.costs))
    program = paced if options.paced else PLAUDIT
    with serving(options.model, "bfloat16", *FLAGS, program=program) as port:
        asyncio.run(compare(f"http://127.0.0.1:{port}", options))


async def compare(url: str, options: argparse.Namespace) -> None:
    costs = Costs.read(options.costs)
    async with AsyncRewardClient(url) as waiting:
        await waiting.wait_ready(300)
    async with httpx2.AsyncClient(base_url=url, timeout=600, limits=httpx2.Limits()) as client:
        for number, load in enumerate(options.loads):
            warm = traffic(12, 0.0, seed=100 + number)
            speed = predicted(warm, costs) / await one_by_one(client, warm)
            seconds = predicted(warm, costs) / len(warm) / speed
            requests = traffic(options.requests, seconds / load, seed=number)
            busy, seen = await open_loop(client, requests)
            simulated, factor = fitted(requests, costs, None if options.paced else busy)
            part = busy / max(one.sent + late for one, late in zip(requests, seen, strict=True))
            print(
                f"{part:.2f} | {quantiles(seen)} | {quantiles(simulated)} | {factor:.2f}",
                flush=True,
            )


def traffic(count: int, every_seconds: float, seed: int) -> list[Request]:
    """Groups with new prompts, at random times, one in ``every_seconds``."""
    spread = np.random.default_rng(seed)
    shape = Bursts(count, RESPONSES, RESPONSES, bursts=1, prompt_tokens=96, response_tokens=40)
    [requests] = shape.requests(seed)
    times = (
        np.cumsum(spread.exponential(every_seconds, count)) if every_seconds else np.zeros(count)
    )
    for request, sent in zip(requests, times, strict=True):
        request.sent = float(sent)
    return requests


def predicted(requests: Sequence[Request], costs: Costs) -> float:
    """Seconds of a replica that gets one request after another."""
    tokens = [
        request.sequences[0].prompt_tokens + sum(s.response_tokens for s in request.sequences)
        for request in requests
    ]
    return sum(costs.of(one, RESPONSES) for one in tokens)


def body(request: Request, seed: int) -> dict[str, object]:
    """Random ids of the request's lengths: no text, so nothing but the engine is compared."""
    spread = np.random.default_rng((seed, request.sequences[0].prompt))
    prompt = spread.integers(3, 40_000, request.sequences[0].prompt_tokens).tolist()
    return {
        "items": [
            {"token_ids": prompt + spread.integers(3, 40_000, one.response_tokens).tolist()}
            for one in request.sequences
        ]
    }


async def post(client: httpx2.AsyncClient, request: Request, seed: int) -> float:
    content = body(request, seed)
    began = time.perf_counter()
    answer = await client.post("/score", json=content)
    answer.raise_for_status()
    return time.perf_counter() - began


async def one_by_one(client: httpx2.AsyncClient, requests: Sequence[Request]) -> float:
    return sum([await post(client, request, time.time_ns()) for request in requests])


async def busy_seconds(client: httpx2.AsyncClient) -> float:
    found = BUSY.search((await client.get("/metrics")).text)
    return float(found[1]) if found else 0.0


async def open_loop(
    client: httpx2.AsyncClient, requests: Sequence[Request]
) -> tuple[float, list[float]]:
    """Seconds that the engine was busy, and those that each caller waited."""
    before, began, seed = await busy_seconds(client), time.perf_counter(), time.time_ns()

    async def send(request: Request) -> float:
        await asyncio.sleep(request.sent - (time.perf_counter() - began))
        return await post(client, request, seed)

    seen = await asyncio.gather(*(send(request) for request in requests))
    return await busy_seconds(client) - before, list(seen)


def fitted(
    requests: Sequence[Request], costs: Costs, busy: float | None
) -> tuple[list[float], float]:
    """Waits of the simulation that is busy for as long, and how many times the costs it took; at
    the costs as they are without ``busy``."""
    factor = 1.0
    for _ in range(FITTINGS if busy else 1):
        again = [Request([*one.sequences], one.sent) for one in requests]
        seen = run(Fleet(costs.faster(1 / factor), LIMITS, least_loaded), 1, [again])
        waits = [wait(one) for one in again]
        if busy:
            factor *= busy / seen.tallies[0].busy_seconds
    return waits, factor


def quantiles(waits: Sequence[float]) -> str:
    return ", ".join(f"{one:.2f}" for one in np.quantile(waits, [0.5, 0.9, 0.99]))


if __name__ == "__main__":
    main()
