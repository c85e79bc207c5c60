"""SIGTERM ends a command as Ctrl-C does: what it has open is closed, its processes end with it."""

import signal
import sys
from types import FrameType


def end_on_sigterm() -> None:
    """For a command's main thread: from here SIGTERM raises SystemExit there."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
