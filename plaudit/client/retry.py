"""When to send a request again, and when to stop. Decisions only: the clients do the waiting."""

import asyncio
import logging
import math
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

from plaudit.client.errors import DeadlineExceeded, ProblemError, Unreachable

RETRIED_STATUSES = frozenset({408, 425, 429, 502, 503, 504})
DEADLINE_HEADER = "X-Request-Deadline-Ms"

logger = logging.getLogger("plaudit")


def uniform() -> float:
    """In [0, 1). The module's generator, seeded anew in a forked child: workers must not agree."""
    return random.random()


@dataclass(frozen=True)
class Clock:
    """Time and chance, which a test replaces. ``wait`` returns early, and true, on the event."""

    now: Callable[[], float] = time.monotonic
    date: Callable[[], float] = time.time
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[], float] = uniform


REAL_CLOCK = Clock()


@dataclass(frozen=True)
class Deadline:
    """The end of one call, all its batches and retries included; ``last``: of a request's attempts,
    what the last one met."""

    timeout_seconds: float
    ends: float
    now: Callable[[], float]
    last: ProblemError | Unreachable | None = None

    def left(self) -> float:
        """Seconds left, above zero. Raises DeadlineExceeded."""
        left = self.ends - self.now()
        if left <= 0:
            raise self.exceeded() from self.last
        return left

    def allows(self, pause_seconds: float) -> bool:
        """Whether time is left after such a pause."""
        return self.now() + pause_seconds < self.ends

    def exceeded(self) -> DeadlineExceeded:
        why = f"; the last attempt: {self.last.text()}" if self.last else ""
        return DeadlineExceeded(f"no answer within {self.timeout_seconds:g} s{why}")


@dataclass(frozen=True)
class Retry:
    """How often, and how long to wait between: 0.5 s doubling to 8 s, less up to half by chance.

    The default count outlasts a minute's restart of the service. ``longest_seconds`` caps the
    client's own pauses; what a server asks for counts, whatever its length.
    """

    max_retries: int = 20
    first_seconds: float = 0.5
    longest_seconds: float = 8.0
    log_level: int = logging.WARNING

    def pause_seconds(self, retries: int, asked_seconds: float | None, chance: float) -> float:
        """Before retry number ``retries`` (from 0); ``chance`` in [0, 1).

        Never sooner than asked for, and up to a quarter later: the others were told the same.
        """
        if asked_seconds is not None:
            return asked_seconds * (1 + chance / 4)
        grown = self.first_seconds * 2.0 ** min(retries, 30)
        return min(self.longest_seconds, grown) * (1 - chance / 2)

    def pause_or_raise(
        self, retries: int, error: ProblemError | Unreachable, deadline: Deadline, chance: float
    ) -> float:
        """Seconds to wait before the next attempt.

        Raises ``error`` where another attempt cannot help or too many failed, and
        DeadlineExceeded, at once, where it would start too late.
        """
        if retries >= self.max_retries or not retryable(error):
            raise error
        asked = error.retry_after_seconds if isinstance(error, ProblemError) else None
        pause = self.pause_seconds(retries, asked, chance)
        if not deadline.allows(pause):
            raise replace(deadline, last=error).exceeded() from error
        logger.log(self.log_level, "%s; retry %d in %.2f s", error, retries + 1, pause)
        return pause


def retryable(error: ProblemError | Unreachable) -> bool:
    """A lost connection or a passing status, unless the problem says that it will not pass."""
    if isinstance(error, Unreachable):
        return error.retryable
    return error.status in RETRIED_STATUSES and error.problem.retryable


def asked_pause(headers: Mapping[str, str], date: float) -> float | None:
    """Seconds asked for by ``retry-after-ms`` or ``retry-after``, above zero, or None.

    ``headers`` has lower-case names or ignores case; ``date`` is now, in seconds since 1970.
    """
    pauses = (
        _number(headers.get("retry-after-ms"), 0.001),
        _number(headers.get("retry-after"), 1.0),
        _until(headers.get("retry-after"), date),
    )
    return next((pause for pause in pauses if pause is not None), None)


def _number(text: str | None, unit: float) -> float | None:
    try:
        seconds = float(text or "") * unit
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def _until(text: str | None, date: float) -> float | None:
    if text is None:
        return None
    try:
        seconds = parsedate_to_datetime(text).timestamp() - date
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return seconds if seconds > 0 else None
