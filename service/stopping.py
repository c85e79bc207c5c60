"""How the server stops: it says so, waits until it is forgotten, finishes, and closes.

uvicorn closes its port at the signal. A load balancer learns of it by its next look at /readyz, and
until then would send callers to a closed port.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import uvicorn

from service.entrance import is_loopback
from service.settings import Settings
from service.timings import FORGET_SECONDS

BOTH = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Of ``server``, which stays open for ``delay_seconds`` after SIGTERM. ``heard``: signals."""

    def __init__(self, server: uvicorn.Server, delay_seconds: float):
        self._server, self._delay = server, delay_seconds
        self.heard: list[signal.Signals] = []

    def begun(self) -> bool:
        return bool(self.heard) or self._server.should_exit

    def hear(self, number: signal.Signals) -> None:
        """SIGINT and every second signal close the port at once; a second SIGINT waits for
        nobody."""
        self._server.force_exit |= self._server.should_exit and number == signal.SIGINT
        self.heard.append(number)
        if self.heard == [signal.SIGTERM] and self._delay:
            self._send_away()
            asyncio.get_running_loop().call_later(self._delay, self._close)
        else:
            self._close()

    def _send_away(self) -> None:
        """Who asks from now on over a connection that is kept is told to let go of it."""
        close = (b"connection", b"close")
        self._server.config.encoded_headers.append(close)  # of these uvicorn makes, each second,
        self._server.server_state.default_headers.append(close)  # the headers of all answers

    def _close(self) -> None:
        self._server.should_exit = True


def delay_seconds(settings: Settings) -> float:
    """On a loopback address it is a person that waits for the end, and seldom a load balancer."""
    if settings.drain_delay_seconds is not None:
        return settings.drain_delay_seconds
    return 0.0 if is_loopback(settings.host) else FORGET_SECONDS


@contextmanager
def signals_to(stopping: Stopping, server: uvicorn.Server) -> Iterator[None]:
    """SIGTERM and SIGINT are for ``stopping`` alone: uvicorn would raise them again in the end,
    before what stands beside ``server`` is done."""
    server.capture_signals = nullcontext
    loop = asyncio.get_running_loop()
    for number in BOTH:
        loop.add_signal_handler(number, stopping.hear, number)
    try:
        yield
    finally:
        for number in BOTH:
            loop.remove_signal_handler(number)
