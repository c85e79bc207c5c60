"""What stands between a request and the engine: its client's quota, then room in the house."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager

from service.admission import Admission, Place
from service.fair_queue import Caller
from service.quotas import Quotas


class Gate:
    def __init__(self, quotas: Quotas, admission: Admission):
        self._quotas, self._admission = quotas, admission

    def coming(self, caller: Caller, tokens: int, deadline: float) -> AbstractContextManager[None]:
        """While a request of about so many tokens is prepared; Failure "overloaded" for what would
        come too late."""
        return self._admission.coming(caller, tokens, deadline)

    @asynccontextmanager
    async def admit(self, caller: Caller, tokens: int, deadline: float) -> AsyncIterator[Place]:
        """Room for ``tokens`` while the body runs, until ``deadline`` in the loop's time. Failure
        "quota", "overloaded" or "deadline". To the quota is counted what the body submits."""
        async with (
            self._quotas.spend(caller.client, tokens, deadline) as bill,
            self._admission.admit(caller, tokens, deadline) as place,
        ):
            place.was_held = place.was_held or bill.waited
            try:
                yield place
            finally:
                bill.unused = place.unused
