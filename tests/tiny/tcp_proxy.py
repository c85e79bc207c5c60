"""A TCP proxy that does harm on demand, between a client and whatever listens on a port."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from random import Random

CHUNK = 65536


@dataclass(frozen=True)
class Harm:
    """What is done to bytes on their way; by default nothing.

    ``delay_seconds`` to each piece of a reply, ``cut_after`` so many bytes of replies to a
    connection, ``flip_share`` of the bytes of replies get one bit flipped, ``frozen`` keeps
    everything on its way, ``refusing`` closes what connects.
    """

    delay_seconds: float = 0.0
    cut_after: int | None = None
    flip_share: float = 0.0
    frozen: bool = False
    refusing: bool = False


PASS = Harm()


@dataclass
class Done:
    """What the proxy did since it started."""

    connections: int = 0
    refused: int = 0
    cuts: int = 0
    flips: int = 0


@dataclass
class TcpProxy:
    """Changes of ``harm`` hold from the next piece of data on, also on connections that stand."""

    target_port: int
    rng: Random
    port: int = 0
    harm: Harm = PASS
    done: Done = field(default_factory=Done)

    def set(self, **changes: object) -> None:
        """``set(frozen=True)`` freezes and does nothing else; ``set()`` passes everything."""
        self.harm = replace(PASS, **changes)  # type: ignore[arg-type]

    async def serve(self, started: Callable[[], None]) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        started()
        await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.done.connections += 1
        if self.harm.refusing:
            self.done.refused += 1
            writer.close()
            return
        try:
            far, to_far = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.close()
            return
        ways = [
            asyncio.create_task(self._requests(reader, to_far)),
            asyncio.create_task(self._replies(far, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ways:
                task.cancel()
            for end in (writer, to_far):
                # At once, also where the other side does not read any more.
                end.transport.abort()

    async def _requests(self, near: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await near.read(CHUNK):
                await self._thawed()
                far.write(data)
                await far.drain()

    async def _replies(self, far: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        passed = 0
        with suppress(OSError):
            while data := await far.read(CHUNK):
                await self._thawed()
                await asyncio.sleep(self.harm.delay_seconds)
                end = self.harm.cut_after
                if end is not None and passed + len(data) > end:
                    self.done.cuts += 1
                    near.write(data[: max(0, end - passed)])
                    await near.drain()
                    return
                passed += len(data)
                near.write(self._flipped(data))
                await near.drain()

    async def _thawed(self) -> None:
        while self.harm.frozen:
            await asyncio.sleep(0.005)

    def _flipped(self, data: bytes) -> bytes:
        share = self.harm.flip_share
        if not share:
            return data
        changed = bytearray(data)
        for place in range(len(changed)):
            if self.rng.random() < share:
                changed[place] ^= 1 << self.rng.randrange(8)
                self.done.flips += 1
        return bytes(changed)


@contextmanager
def proxy_to(port: int, rng: Random) -> Iterator[TcpProxy]:
    """A proxy on a free port, in a thread with a loop of its own."""
    proxy, started = TcpProxy(port, rng), threading.Event()
    loop = asyncio.new_event_loop()
    serving = loop.create_task(proxy.serve(started.set))

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)
        for task in (rest := asyncio.all_tasks(loop)):
            task.cancel()
        if rest:
            loop.run_until_complete(asyncio.wait(rest))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()
