"""How often an engine's process is started again, and after what pause."""

import time
from collections.abc import Callable

# Deaths and starts that failed, with no steady time between, after which it is given up.
MOST = 8
# Up for so long it was well, and what comes later is counted anew.
STEADY_SECONDS = 600.0
LONGEST_PAUSE_SECONDS = 60.0


class Restarts:
    """Counts failures. Times are of ``clock``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._up_at = clock, clock()
        self.failures = 0

    def up(self) -> None:
        """It works from now on."""
        self._up_at = self._clock()

    def failed(self, was_up: bool) -> None:
        """It died, or it did not start."""
        steady = was_up and self._clock() - self._up_at >= STEADY_SECONDS
        self.failures = 1 if steady else self.failures + 1

    @property
    def exhausted(self) -> bool:
        return self.failures >= MOST

    @property
    def pause_seconds(self) -> float:
        """Before the next start: none after the first failure, then doubling."""
        return 0.0 if self.failures < 2 else min(LONGEST_PAUSE_SECONDS, 2.0 ** (self.failures - 2))
