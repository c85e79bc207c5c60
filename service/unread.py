"""What is hopeless when it comes is refused unread: its body is neither awaited nor decoded.

A flood costs a server what it does for each request before it says no, and most of that is routing,
reading and decoding. A score that is kept in memory needs no engine, though, and only the body
tells whether it is one: so some are read all the same.
"""

import asyncio
from collections.abc import Mapping

from service.admission import Admission
from service.fair_queue import Caller
from service.hardening import deadline_seconds, priority
from service.quotas import Bucket, Quota

# Hopeless requests that are read: a second, and at once after a pause.
READ_PER_SECOND, READ_AT_ONCE = 100.0, 100


class Unread:
    """``limit_seconds``: the deadline of a request that names none."""

    def __init__(self, admission: Admission, limit_seconds: float):
        self._admission, self._limit = admission, limit_seconds
        self._read = Bucket(Quota(READ_PER_SECOND, READ_AT_ONCE))

    def refuse(self, headers: Mapping[str, str], client: str) -> None:
        """Failure "overloaded" for a request of ``client`` that cannot be answered in time and need
        not be read; "malformed" where its headers are."""
        now = asyncio.get_running_loop().time()
        deadline = now + deadline_seconds(headers, self._limit)
        caller = Caller(priority(headers), client)
        if self._admission.is_hopeless(deadline, caller) and not self._may_read(now):
            raise self._admission.overloaded("queue-full")

    def _may_read(self, now: float) -> bool:
        if self._read.wait_seconds(1, now):
            return False
        self._read.spend(1, now)
        return True
