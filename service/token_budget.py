"""How many tokens go into one forward: fewer for a while after one ran out of memory."""

import time
from collections.abc import Callable

# A budget that was halved is doubled after so long without another such failure.
RECOVER_SECONDS = 60.0
# It is never less than this part of what is configured: below that a batch is halved by itself.
LEAST = 1 / 32


class TokenBudget:
    """At most ``most`` tokens."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic):
        self.most, self._clock = most, clock
        self._limit, self._since = most, clock()

    @property
    def tokens(self) -> int:
        """As many as one forward may have now."""
        periods = int((self._clock() - self._since) // RECOVER_SECONDS)
        return min(self.most, self._limit << min(periods, self.most.bit_length()))

    def shrink(self, failed: int) -> None:
        """A forward of ``failed`` tokens, before any were shared, was too large."""
        half = min(self.tokens, failed) // 2
        self._limit, self._since = max(1, int(self.most * LEAST), half), self._clock()
