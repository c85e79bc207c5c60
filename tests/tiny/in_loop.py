"""An engine's thread for virtual time: the loop itself, so that every run is the same."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class InLoop(ThreadPoolExecutor):
    """Work begins when it is submitted and ends after so many seconds of the loop's time."""

    def __init__(self, seconds: float):
        super().__init__(1)
        self._seconds = seconds

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        found: Future[Any] = Future()
        found.set_running_or_notify_cancel()
        later = asyncio.get_running_loop().call_later
        try:
            result = work(*args, **named)
        except Exception as error:  # noqa: BLE001  as an executor does
            later(self._seconds, found.set_exception, error)
        else:
            later(self._seconds, found.set_result, result)
        return found
