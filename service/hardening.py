"""What stands before the scorer: body caps, deadlines, request ids."""

import asyncio
import re
import uuid
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, TypeVar, cast, get_args

from starlette.requests import ClientDisconnect, Request

from service.fair_queue import Caller, Priority
from service.problems import Failure

T = TypeVar("T")

RETRY_HEADERS = (b"x-plaudit-retry-count", b"x-stainless-retry-count")
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, counted while it streams; Failure "too-large" at the first byte too many.

    Failure "encoded" for a compressed one: a small body could become any size.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise Failure("encoded", "Content-Encoding is not taken")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise Failure("too-large", f"the body is over {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def deadline_seconds(headers: Mapping[str, str], limit: float) -> float:
    """What the caller allows (X-Request-Deadline-Ms), at most the server's limit."""
    value = headers.get("x-request-deadline-ms")
    if value is None:
        return limit
    if not re.fullmatch("[0-9]{1,12}", value) or int(value) == 0:
        raise Failure("malformed", "X-Request-Deadline-Ms is not a positive number of milliseconds")
    return min(limit, int(value) / 1000)


def priority(headers: Mapping[str, str]) -> Priority:
    """How urgent the caller says it is (X-Priority)."""
    value = headers.get("x-priority", "train")
    for known in get_args(Priority):
        if value == known:
            return cast(Priority, known)
    raise Failure("malformed", f"X-Priority is not one of {', '.join(get_args(Priority))}")


def is_retry(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the caller says that it asked before: our client, or one that OpenAI's SDK is in."""
    counts = [value for name, value in headers if name in RETRY_HEADERS]
    return any(count.isdigit() and count.strip(b"0") for count in counts)


def caller_of(request: Request) -> Caller:
    """Who asks, as the entrance found, and how urgently."""
    return Caller(priority(request.headers), request.state.client)


async def unless_gone(request: Request, answer: Coroutine[Any, Any, T]) -> T:
    """The answer, unless the caller hangs up first: then it is cancelled, ClientDisconnect.

    The body must have been read: what is received after it can only be the end.
    """
    answering = asyncio.ensure_future(answer)
    try:
        await asyncio.sleep(0)
        if not answering.done():  # repeats are: they need no more than one step
            await _done_or_gone(answering, request)
        return answering.result()
    finally:
        if not answering.done():
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)


async def _done_or_gone(answering: asyncio.Future[T], request: Request) -> None:
    gone = asyncio.ensure_future(request.receive())
    either: list[asyncio.Future[Any]] = [answering, gone]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's X-Request-Id if it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
