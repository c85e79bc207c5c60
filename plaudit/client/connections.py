"""Connections that close when nobody uses them any more.

httpx2 forgets a connection that is being established while its client closes, and leaves its socket
open. A call that failed may have requests that are just so far.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import httpx2


class Connections:
    """After ``close`` the last who holds them closes them."""

    def __init__(self, limits: httpx2.Limits) -> None:
        self._http = httpx2.Client(limits=limits)
        self._lock = threading.Lock()
        self._holders = 1  # the owner, until it closes

    @contextmanager
    def held(self) -> Iterator[httpx2.Client]:
        with self._lock:
            self._holders += 1
        try:
            yield self._http
        finally:
            self._release()

    def hold_until_done(self, request: Future[Any]) -> None:
        with self._lock:
            self._holders += 1
        request.add_done_callback(lambda _: self._release())

    def close(self) -> None:
        """To be called once."""
        self._release()

    def _release(self) -> None:
        with self._lock:
            self._holders -= 1
            last = not self._holders
        if last:
            self._http.close()
