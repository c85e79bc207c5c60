"""Admission and the fair queue as they are, before an engine that only lets virtual time pass."""

import asyncio
from dataclasses import dataclass

from service.admission import Admission, Place
from service.fair_queue import Caller, FairQueue
from service.metrics import Metrics
from service.problems import Failure

BATCH = 1000
RATE = 1000.0  # tokens a second: a full forward takes one


@dataclass(eq=False)
class Piece:
    """A sequence that waits for its forward."""

    caller: Caller
    tokens: int
    done: asyncio.Future[None]
    begun: bool = False

    def leave(self) -> None:
        """Nobody waits for it. What is being computed goes on."""
        if not self.begun:
            self.done.cancel()


@dataclass(frozen=True)
class Seen:
    """What became of a request: "ok" or the kind of its failure, after how many seconds, and
    when."""

    outcome: str
    seconds: float
    ended: float
    caller: Caller
    tokens: int


class Server:
    def __init__(self, max_tokens: int = 10**6):
        self.metrics = Metrics()
        self.admission = Admission(max_tokens, self.metrics, BATCH)
        self.computed = 0
        self._queue: FairQueue[Piece] = FairQueue(BATCH // 2)
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        while True:
            self._arrived.clear()
            if not len(self._queue):
                await self._arrived.wait()
            pieces = [one for one in self._queue.take(BATCH) if not one.done.done()]
            for piece in pieces:
                piece.begun = True
            tokens = sum(piece.tokens for piece in pieces)
            await asyncio.sleep(tokens / RATE)
            self.computed += tokens
            for piece in pieces:
                piece.done.set_result(None)
            await asyncio.sleep(0)  # callers leave before the next forward is chosen
            await asyncio.sleep(0)

    async def ask(self, caller: Caller, sizes: list[int], allowed: float) -> Seen:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            with self.admission.coming(caller, sum(sizes), began + allowed):
                pass
            async with self.admission.admit(caller, sum(sizes), began + allowed) as place:
                pieces = [Piece(caller, size, loop.create_future()) for size in sizes]
                await self._computed(pieces, place)
            outcome = "ok"
        except Failure as failure:
            outcome = failure.kind
        return Seen(outcome, loop.time() - began, loop.time(), caller, sum(sizes))

    async def _computed(self, pieces: list[Piece], place: Place) -> None:
        for piece in pieces:
            place.use(piece.tokens, piece.done)
            self._queue.push(piece)
        self._arrived.set()
        try:
            await asyncio.wait([piece.done for piece in pieces])
        finally:
            for piece in pieces:
                piece.leave()


async def serve(server: Server, arrivals: list[tuple[float, Caller, list[int], float]]):
    """What becomes of requests, each at its second: caller, sequences' tokens, seconds allowed."""
    engine = asyncio.create_task(server.run())
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(at, *request):
        await asyncio.sleep(began + at - loop.time())
        return await server.ask(*request)

    try:
        seen = await asyncio.gather(*(one(*arrival) for arrival in arrivals))
        await asyncio.sleep(10)  # what is under way ends, though nobody waits for it
        return seen
    finally:
        engine.cancel()
