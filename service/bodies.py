"""Request bodies: counted, then decoded into typed structs."""

import re
from typing import TypeVar

import msgspec
from starlette.requests import Request

from service.hardening import read_body
from service.metrics import Metrics
from service.problems import Failure

T = TypeVar("T")


class Bodies:
    """Reads the bodies of requests, each at most ``max_bytes``."""

    def __init__(self, max_bytes: int, metrics: Metrics):
        self._max_bytes, self._metrics = max_bytes, metrics

    async def raw(self, request: Request) -> bytes:
        return await read_body(request, self._max_bytes)

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
        raise Failure("malformed", QUOTED.sub(name_only, str(error))[:300]) from None


# Quotes that are not a path such as `$.items[0]`.
QUOTED = re.compile(r"`([^$`][^`]*)`|'([^']*)'", re.DOTALL)
FIELD = re.compile(r"[a-z_]{1,20}")
# As msgspec writes a choice of types.
TYPES = re.compile(r"(?:(?:str|int|float|bool|null|array|object)(?: \| )?)+")


def name_only(quote: re.Match[str]) -> str:
    """A quote as it stands if it can be a field's name or names types, else nothing of it."""
    words = quote[1] or quote[2] or ""
    return quote[0] if FIELD.fullmatch(words) or TYPES.fullmatch(words) else "(not shown)"
