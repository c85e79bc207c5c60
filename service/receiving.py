"""How requests are received: within bounds of size, of number and of time.

uvicorn bounds none of them. A proxy in front does so too, but a server that is reached without one
must not fall to a single connection. Bodies are counted where they are read: see ``bodies``.
"""

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

# Of what is no body: request line, headers, what stands around chunks, trailers.
MAX_FRAME_BYTES = 64 * 1024
# Each costs a call; the largest body in honest chunks has far fewer.
MAX_CHUNKS = 16_384
# A chunk's size in hexadecimal digits, and two ends of line.
CHUNK_FRAME_BYTES = 16
# Requests that wait for the answers before theirs; a client that sends so many ahead is none.
MAX_WAITING = 64
# Received at once, and so the most that a bound is exceeded by.
PIECE_BYTES = 16 * 1024
# What follows an answer is thrown away for so long, so that the caller comes to read the answer.
LINGER_SECONDS = 2.0
REASONS = {
    400: b"The request is not valid HTTP/1.1, asks for an upgrade or has too many chunks.",
    408: b"The request did not arrive in time.",
    431: b"The headers are too large.",
}


class Receiving(HttpToolsProtocol):  # type: ignore[misc]  # uvicorn is not followed
    """One connection. A request has ``seconds`` to arrive, and its answer to be read."""

    def __init__(self, *args: Any, seconds: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._seconds = seconds
        self._arriving: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._in_head, self._frame, self._chunks = True, 0, 0
        self._silent = True
        self._owed = 0  # requests that came whole, less answers that went whole

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._await_rest(self._seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._arriving, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._silent = False
        whole = memoryview(data)
        for begin in range(0, len(data), PIECE_BYTES):
            piece = whole[begin : begin + PIECE_BYTES]
            self._await_something()
            self._frame += len(piece)
            super().data_received(piece)
            self._check_bounds()
            if self.transport.is_closing():
                return

    def _check_bounds(self) -> None:
        if self._chunks > MAX_CHUNKS:
            self._refuse(400)
        elif self._frame > MAX_FRAME_BYTES + self._chunks * CHUNK_FRAME_BYTES:
            self._refuse(431)

    def on_message_begin(self) -> None:
        if len(self.pipeline) == MAX_WAITING:
            raise ValueError("too many requests in one connection")  # the parser's: 400
        self._in_head, self._frame, self._chunks = True, 0, 0
        self._unset_keepalive_if_required()
        self._await_something()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is no header: it would pass by whoever looks at headers in front of us.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        # After an upgrade the parser takes a body for the next request, so none is taken on.
        if self.parser.should_upgrade() or self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("an upgrade, or another version")  # the parser's: 400
        self._in_head = False
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_body(self, body: bytes) -> None:
        self._frame -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._owed += 1
        self._in_head = True
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None
        if self.cycle.response_complete:
            self._await_another()
        super().on_message_complete()

    def _await_another(self) -> None:
        """As uvicorn does after an answer: what came then of a body has ended its waiting."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def on_response_complete(self) -> None:
        self._owed -= 1
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reader(self._seconds)
        elif self._owed < 0:
            self._await_rest(LINGER_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader(self._seconds)

    def resume_writing(self) -> None:
        if self._unread is not None and not self.transport.is_closing():
            self._unread.cancel()
        super().resume_writing()

    def _await_reader(self, seconds: float) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self._unread = self.loop.call_later(seconds, self._reset)

    def _reset(self) -> None:
        """End a connection without what is still to be sent: the kernel would keep it for long."""
        found = self.transport.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400)

    def _await_something(self) -> None:
        if self._arriving is None:
            self._await_rest(self._seconds)

    def _await_rest(self, seconds: float) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
        self._arriving = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if self._owed > 0:  # the one before is still being answered
            self._await_rest(self._seconds)
        else:
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Say why and close; only close where an answer has begun, or nothing was asked."""
        if self.transport.is_closing():
            return
        begun = self.cycle is not None and self.cycle.response_started and not self._in_head
        if not self._silent and not begun:
            reason = REASONS[status]
            head = b"content-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(reason) + reason)
        self.transport.close()
        self._await_reader(LINGER_SECONDS)
