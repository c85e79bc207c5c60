"""What is hopeless when it comes is refused unread: its body is neither awaited nor decoded.

A flood costs a server what it does for each request before it says no: from the application's door
on some 170 microseconds of a CPU where it is read, and 45 where it is not. A score that is kept in
memory needs no engine, though, and only the body tells whether it is one: so some of each client
are read all the same.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from service.admission import Admission
from service.fair_queue import Caller, Priority
from service.quotas import Bucket, Quota
from service.request_headers import deadline_seconds, priority

# Hopeless requests of a client that are read: a second, and at once after a pause.
READ_PER_SECOND, READ_AT_ONCE = 100.0, 100
# A larger body, or one of unknown length, is read: it may be on its way for longer than
# ``receiving`` waits for what follows an answer, and its sender would never see that answer.
MOST_UNREAD_BYTES = 64 * 1024


class Unread:
    """``limit_seconds``: the deadline of a request that names none."""

    def __init__(self, admission: Admission, limit_seconds: float):
        self._admission, self._limit = admission, limit_seconds
        self._read: dict[tuple[Priority, str], Bucket] = {}  # clients are a closed set

    def refuse(self, headers: Mapping[str, str], client: str) -> None:
        """Failure "overloaded" for a request of ``client`` that cannot be answered in time and need
        not be read; "malformed" where its headers are."""
        if not is_small(headers):
            return
        now = asyncio.get_running_loop().time()
        caller = Caller(priority(headers), client)
        deadline = now + deadline_seconds(headers, self._limit)
        spared = partial(self._may_read, (caller.priority, client), now)
        self._admission.refuse_hopeless(caller, deadline, spared)

    def _may_read(self, whose: tuple[Priority, str], now: float) -> bool:
        bucket = self._read.get(whose)
        if bucket is None:
            bucket = self._read[whose] = Bucket(Quota(READ_PER_SECOND, READ_AT_ONCE))
        if bucket.wait_seconds(1, now):
            return False
        bucket.spend(1, now)
        return True


def is_small(headers: Mapping[str, str]) -> bool:
    """Whether the body is known to be. The parser in front has seen to it that it is a number."""
    length = headers.get("content-length")
    return length is not None and int(length) <= MOST_UNREAD_BYTES
