"""Quotas: how many tokens of text a second the clients of keys may have computed.

A token bucket for each client, kept as the time at which it will be full again (the generic cell
rate algorithm, ITU-T I.371). Like admission it is patient: a request is held as long as its
deadline allows, and refused only when that is too soon. Only what must be computed is counted:
cached scores, and work that is under way for another caller, cost the server next to nothing, and a
retry must not be paid for twice.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.metrics import Metrics
from service.problems import Failure


@dataclass(frozen=True)
class Quota:
    """Tokens a second over time, above zero, and tokens at once after a pause."""

    tokens_per_second: float
    burst_tokens: int

    def __post_init__(self) -> None:
        if not (0 < self.tokens_per_second < math.inf and self.burst_tokens >= 0):
            raise ValueError(f"{self} is no quota: tokens_per_second > 0, burst_tokens >= 0")


ROUNDING_SECONDS = 1e-6


@dataclass
class Bill:
    """What a request must pay for: of its tokens, ``unused`` were not computed after all.
    ``waited``: whether it had to wait for its quota."""

    unused: int
    waited: bool = False


class Bucket:
    """What one client has spent. Times are in the loop's."""

    def __init__(self, quota: Quota):
        self.quota = quota
        self._full_at = -math.inf

    def wait_seconds(self, tokens: int, now: float) -> float:
        """Until so many are allowed, after all that were spent before. More than a burst are when
        the bucket is full; what comes next waits until they are paid."""
        burst = self.quota.burst_tokens
        full_at = max(now, self._full_at) + self._seconds(min(tokens, burst))
        wait = full_at - now - self._seconds(burst)
        return wait if wait > ROUNDING_SECONDS else 0.0

    def spend(self, tokens: int, now: float) -> None:
        """Spend them; with a negative number, give them back: into a bucket that is full by now no
        more than those, however many are given back."""
        self._full_at = max(now, self._full_at) + self._seconds(tokens)

    def _seconds(self, tokens: int) -> float:
        return tokens / self.quota.tokens_per_second


class Quotas:
    """Of clients by their names. Who has none is not limited, and whose quota changes begins anew
    with the new one. ``limits`` gives those that count now."""

    def __init__(self, limits: Callable[[], Mapping[str, Quota]], metrics: Metrics):
        self._limits, self._requests = limits, metrics.requests
        self._buckets: dict[str, Bucket] = {}

    def _bucket(self, client: str) -> Bucket | None:
        quota = self._limits().get(client)
        if quota is None:
            return None
        found = self._buckets.get(client)
        if found is None or found.quota != quota:
            found = self._buckets[client] = Bucket(quota)
        return found

    @asynccontextmanager
    async def spend(self, client: str | None, tokens: int, deadline: float) -> AsyncIterator[Bill]:
        """Run the body when the client may have ``tokens`` computed, in the order of the asking.

        Failure "quota" where that is not before ``deadline``, in the loop's time. Nothing is spent
        then, nor what is ``unused`` in the end: all, until the body says otherwise.
        """
        bill = Bill(tokens)
        bucket = None if client is None or not tokens else self._bucket(client)
        if client is None or bucket is None:
            yield bill
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        wait = bucket.wait_seconds(tokens, now)
        if now + wait > deadline:
            raise self._refusal(client, bucket.quota, tokens, wait)
        bucket.spend(tokens, now)
        try:
            if wait:
                bill.waited = True
                self._requests.quota_wait_seconds.labels(client).inc(wait)
                await asyncio.sleep(wait)
            yield bill
        finally:
            bucket.spend(-bill.unused, loop.time())

    def _refusal(self, client: str, quota: Quota, tokens: int, wait: float) -> Failure:
        self._requests.quota_rejections.labels(client).inc()
        return Failure(
            "quota",
            f"{tokens} tokens would be allowed in {wait:.1f} s: the quota of {client} is "
            f"{quota.tokens_per_second:g} tokens a second and {quota.burst_tokens} at once",
            retry_after_seconds=math.ceil(wait),
        )
