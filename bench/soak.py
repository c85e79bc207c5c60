"""A mixed load for as long as wanted: do memory, descriptors, tasks or threads grow?

    plaudit serve ENSEMBLE.yaml --deterministic --log-level warning
    python bench/soak.py http://127.0.0.1:8000 --pid PID [--seconds 3600]

Callers ask for known scores (most of them cached), for known ensembles, for texts that nobody has
seen, for nonsense, and hang up in the middle of a request. A fifth of the time warms up; then the
load rests, what is open is counted, and the load goes on until what is open is counted again.
Memory is the straight line through what was measured under the second load.
"""

import argparse
import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2
import numpy as np
import psutil

KNOWN = [f"How do I boil {n} eggs? {'In water. ' * (n % 7)}" for n in range(40)]
PAUSE_SECONDS, WARM = 0.05, 0.2
REST_SECONDS = 7.0  # the service closes an idle connection after 5 s


@dataclass
class Open:
    """What the process holds; the memory in bytes."""

    memory: int
    descriptors: int
    threads: int
    tasks: int


@dataclass
class Soak:
    """``lost``: requests without the answer that they must get; ``wrong``: other scores than at
    first."""

    client: httpx2.AsyncClient
    process: psutil.Process
    model: str
    asked: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    wrong: int = 0
    _names: Iterator[int] = field(default_factory=itertools.count)
    _known: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    async def learn(self) -> None:
        """The true scores, of the idle service."""
        for path, text in itertools.product(("/score", "/ensemble_score"), KNOWN):
            answer = await self.client.post(path, json=self._body(path, text))
            self._known[path, text] = answer.raise_for_status().json()["rewards"]

    def _body(self, path: str, text: str) -> dict[str, object]:
        named = {"model": self.model} if path == "/score" else {}
        return {"items": [{"text": text}], **named}

    async def load(self, seconds: float) -> list[tuple[float, Open]]:
        """Ask for so long; what was open meanwhile, and when."""
        ends = time.monotonic() + seconds
        kinds = (self.known, self.ensemble, self.fresh, self.nonsense, self.hang_up)
        async with asyncio.TaskGroup() as callers:
            for kind in kinds:
                for _ in range(2):
                    callers.create_task(self._repeat(kind, ends))
            seen = [sample async for sample in self._samples(ends, seconds / 100)]
        return seen

    async def _repeat(self, kind: Callable[[], Awaitable[None]], ends: float) -> None:
        while time.monotonic() < ends:
            self.asked[kind.__name__] += 1
            try:
                await kind()
            except (httpx2.HTTPError, OSError) as error:
                self.lost.append(f"{kind.__name__}: {error!r}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _samples(self, ends: float, period: float) -> AsyncIterator[tuple[float, Open]]:
        while time.monotonic() < ends:
            yield time.monotonic(), await self.open()
            await asyncio.sleep(period)

    async def open(self) -> Open:
        text = (await self.client.get("/metrics")).text
        found = re.search(r"^plaudit_event_loop_tasks (.+)$", text, re.MULTILINE)
        assert found
        process = self.process
        threads, memory = process.num_threads(), process.memory_info().rss
        return Open(memory, process.num_fds(), threads, int(float(found[1])))

    async def rest(self) -> Open:
        """What is open when nothing is asked."""
        await asyncio.sleep(REST_SECONDS)
        return await self.open()

    async def known(self) -> None:
        await self._check("/score")

    async def ensemble(self) -> None:
        await self._check("/ensemble_score")

    async def _check(self, path: str) -> None:
        text = KNOWN[next(self._names) % len(KNOWN)]
        answer = await self.client.post(path, json=self._body(path, text))
        self.wrong += answer.raise_for_status().json()["rewards"] != self._known[path, text]

    async def fresh(self) -> None:
        body = self._body("/score", f"How do I boil {next(self._names)} potatoes?")
        (await self.client.post("/score", json=body)).raise_for_status()

    async def nonsense(self) -> None:
        for path, body, status in (
            ("/score", b"{", 422), ("/score", b'{"model":"no","items":[]}', 404), ("/no", b"", 404),
        ):  # fmt: skip
            answer = await self.client.post(path, content=body)
            if answer.status_code != status:
                self.lost.append(f"{path} {body!r}: {answer.status_code}, not {status}")

    async def hang_up(self) -> None:
        """In mid-body, and with the whole request sent."""
        at = urlsplit(str(self.client.base_url))
        body = b'{"items":[{"text":"never read %d"}]}' % next(self._names)
        head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        for sent in (head + body[:9], head + body):
            _, writer = await asyncio.open_connection(at.hostname, at.port)
            writer.write(sent)
            await writer.drain()
            writer.transport.abort()


def growth(seen: list[tuple[float, Open]]) -> float:
    """Bytes by which memory grew, by the straight line through the samples."""
    times = np.array([at for at, _ in seen])
    memory = np.array([found.memory for _, found in seen])
    slope = float(np.polyfit(times - times[0], memory, 1)[0])
    return slope * float(times[-1] - times[0])


@dataclass
class Result:
    before: Open
    after: Open
    grown: float


async def soak(soaking: Soak, seconds: float) -> Result:
    """Warm up for a share of ``seconds``, and load for the rest of them."""
    await soaking.learn()
    await soaking.load(seconds * WARM)
    before = await soaking.rest()
    seen = await soaking.load(seconds * (1 - WARM))
    return Result(before, await soaking.rest(), growth(seen))


async def run(options: argparse.Namespace) -> None:
    async with httpx2.AsyncClient(base_url=options.url, timeout=120) as client:
        found = (await client.get("/models")).json()["models"]
        model = next(one["name"] for one in found if one["kind"] != "ensemble")
        soaking = Soak(client, psutil.Process(options.pid), model)
        result = await soak(soaking, options.seconds)
    print(f"requests {soaking.asked.total()}, lost {len(soaking.lost)}, wrong {soaking.wrong}")
    print(f"before {result.before}\nafter  {result.after}")
    print(f"memory grew by {result.grown / 1e6:.2f} MB in {options.seconds * (1 - WARM):.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=3600.0)
    asyncio.run(run(parser.parse_args()))
