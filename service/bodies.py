"""Request bodies: counted, then decoded into typed structs."""

import re
from typing import TypeVar

import msgspec
from starlette.requests import Request

from service.metrics import Metrics
from service.problems import Failure

T = TypeVar("T")


class Bodies:
    """Reads the bodies of requests, each at most ``max_bytes``."""

    def __init__(self, max_bytes: int, metrics: Metrics):
        self._max_bytes, self._metrics = max_bytes, metrics

    async def raw(self, request: Request) -> bytes:
        """The body, counted while it streams; Failure "too-large" at the first byte too many.

        Failure "encoded" for a compressed one: a small body could become any size.
        """
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise Failure("encoded", "Content-Encoding is not taken")
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._max_bytes:
                raise Failure("too-large", f"the body is over {self._max_bytes} bytes")
            parts.append(part)
        return b"".join(parts)

    async def read(self, request: Request, decoder: "msgspec.json.Decoder[T]") -> T:
        """The typed body, or Failure "malformed" or "too-large"."""
        body = await self.raw(request)
        with self._metrics.stage("decode"):
            return decode(decoder, body)


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """The typed body. msgspec's messages name the place and the types; what they quote of the
    caller's own words is kept only where it can be a field's name."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Failure("malformed", without_words(str(error))[:300]) from None


# What msgspec ends with the caller's words in quotes. They may hold any quote themselves.
QUOTING = re.compile(r"(Object contains unknown field|Invalid enum value) (.*)", re.DOTALL)
PLACE = re.compile(r"(.*)( - at `\$(?:\.[a-z_]{1,20}|\[(?:[0-9]{1,9}|\.\.\.)\])*`)", re.DOTALL)
FIELD = re.compile(r"`[a-z_]{1,20}`|'[a-z_]{1,20}'")


def without_words(message: str) -> str:
    """A message of msgspec, without what the caller wrote but for what can be a field's name."""
    placed = PLACE.fullmatch(message)
    said, place = placed.groups() if placed else (message, "")
    quoting = QUOTING.fullmatch(said)
    if quoting is None:
        return said + place
    words = quoting[2] if FIELD.fullmatch(quoting[2]) else "(not shown)"
    return f"{quoting[1]} {words}{place}"
