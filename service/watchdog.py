"""Ends the process where only another one helps: a forward or a chat template that does not end,
a device that is lost, an engine whose process dies again and again. A thread cannot be ended alone.
"""

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from typing import NoReturn

from service.logs import close, log

# Of sysexits.h: EX_SOFTWARE. No other end of the server has it.
HOPELESS = 70
LOOK_SECONDS = 1.0


async def watch(hopeless: Callable[[], str | None]) -> None:
    """Until it says why, and then no longer than it takes to log that."""
    while (why := hopeless()) is None:
        await asyncio.sleep(LOOK_SECONDS)
    log.critical("the process ends", extra={"fields": {"why": why, "exit": HOPELESS}})
    end()


def end(status: int = HOPELESS) -> NoReturn:
    """At once: nothing is waited for, since what hangs would be. An engine's processes, which would
    outlive this one, go first."""
    for child in multiprocessing.active_children():
        child.kill()
    close()
    os._exit(status)
