"""Callers that ask for known scores, again and again, and count what they get."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Self

Ask = Callable[[str], Awaitable[float]]
# Between two questions of a caller: the machine has other work too.
PAUSE_SECONDS = 0.25
# Generous: what a busy machine has not done by then will not be done.
WAIT_SECONDS = 300.0


class Callers:
    """``async with``: they ask until the block ends, and then each to its last answer.

    An exception of ``ask`` is a lost request: it says what its caller makes of failures. A score is
    wrong unless it is the expected one to the last bit.
    """

    def __init__(self, pause_seconds: float = PAUSE_SECONDS) -> None:
        self.asked: Counter[str] = Counter()
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self._pause, self._over = pause_seconds, asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def requests(self) -> int:
        return self.asked.total()

    def add(self, name: str, ask: Ask, expected: Mapping[str, float], count: int = 1) -> None:
        """``count`` callers that ask for the texts of ``expected`` in turn."""
        self.asked[name] += 0
        for _ in range(count):
            asking = self._repeat(name, ask, expected)
            self._tasks.append(asyncio.create_task(asking))

    async def all_asked(self, times: int) -> None:
        """Return once each kind of caller has asked that often from now on."""
        wanted = {name: self.asked[name] + times for name in self.asked}
        async with asyncio.timeout(WAIT_SECONDS + times):
            while any(self.asked[name] < least for name, least in wanted.items()):
                await asyncio.sleep(self._pause)

    async def stop(self) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _repeat(self, name: str, ask: Ask, expected: Mapping[str, float]) -> None:
        for text in itertools.cycle(expected):
            if self._over.is_set():
                return
            self.asked[name] += 1
            await self._once(name, ask, text, expected[text])
            await asyncio.sleep(self._pause)

    async def _once(self, name: str, ask: Ask, text: str, expected: float) -> None:
        try:
            score = await ask(text)
        except Exception as error:  # noqa: BLE001  whatever it is, the request got no score
            self.lost.append(f"{name}: {error!r}")
            return
        if score != expected:
            self.wrong.append(f"{name}: {score}, not {expected}")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return once it does."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await holds():
            await asyncio.sleep(0.02)
