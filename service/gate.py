"""What stands between a request and the engine: its client's quota, then room in the house."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager

from service.admission import Admission, Place
from service.fair_queue import Caller
from service.quotas import Quotas


class Gate:
    def __init__(self, quotas: Quotas, admission: Admission):
        self._quotas, self._admission = quotas, admission

    def coming(self, caller: Caller, deadline: float, tokens: int) -> AbstractContextManager[None]:
        """While a request of about so many tokens is prepared; Failure "overloaded" for what would
        come too late."""
        return self._admission.coming(tokens, deadline, caller)

    @asynccontextmanager
    async def admit(self, caller: Caller, deadline: float, tokens: int) -> AsyncIterator[Place]:
        """Room for ``tokens`` while the body runs, until ``deadline`` in the loop's time. Failure
        "quota", "overloaded" or "deadline". To the quota is counted what the body submits."""
        async with (
            self._quotas.spend(caller.client, tokens, deadline) as bill,
            self._admission.admit(tokens, deadline, caller) as place,
        ):
            place.was_held = place.was_held or bill.waited
            try:
                yield place
            finally:
                bill.unused = place.unused
