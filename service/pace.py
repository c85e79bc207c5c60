"""How fast tokens are computed while there is enough to compute."""

import time
from collections.abc import Callable

# A measurement is of at least so long, and the newest has this part in the estimate.
SECONDS = 0.5
NEWEST = 0.5


class Pace:
    """Tokens a second of a house that is never nearly empty: with less than ``enough`` tokens in it
    the callers are what is slow. Unknown until that was so for a while."""

    def __init__(self, enough: int, clock: Callable[[], float] = time.perf_counter):
        self._enough, self._clock = enough, clock
        self._used, self._since = 0, 0.0
        self._tokens, self._seconds = 0, 0.0
        self._rate: float | None = None

    @property
    def tokens_per_second(self) -> float | None:
        return self._rate

    def changed(self, used: int, computed: int = 0) -> None:
        """Now ``used`` tokens are in the house, and ``computed`` more have just been."""
        now = self._clock()
        if self._used >= self._enough:
            self._seconds += now - self._since
            self._tokens += computed
        self._used, self._since = used, now
        if self._seconds >= SECONDS and self._tokens >= self._enough:
            measured = self._tokens / self._seconds
            old = measured if self._rate is None else self._rate
            self._rate = old + NEWEST * (measured - old)
            self._tokens, self._seconds = 0, 0.0

    def seconds(self, tokens: float) -> float:
        """How long so many take; 0 while that is unknown, which nobody is refused for."""
        return 0.0 if self._rate is None else tokens / self._rate
