"""A caller that hangs up before its answer: the work for it is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


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
