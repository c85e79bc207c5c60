"""When to leave a neighbour alone that is lost or slow, and how to notice that it is well again."""

import time
from collections.abc import Callable


class Breaker:
    """Open after ``failures`` in a row, for ``rest_seconds``; then one try decides, while all
    others still keep away."""

    def __init__(
        self,
        failures: int = 3,
        rest_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._limit, self._rest, self._clock = failures, rest_seconds, clock
        self._failed = 0
        self._until = 0.0

    @property
    def open(self) -> bool:
        return self._clock() < self._until

    @property
    def failing(self) -> bool:
        """Whether it opened and no try has succeeded since."""
        return self._failed >= self._limit

    def admits(self) -> bool:
        """Whether the caller may try. Of many that ask after a rest only the first may: were it
        all of them, each would wait in vain. A try of which nothing is recorded is a rest more."""
        if self.open:
            return False
        if self.failing:
            self._until = self._clock() + self._rest
        return True

    def record(self, succeeded: bool) -> None:
        if succeeded:
            self._failed, self._until = 0, 0.0
            return
        self._failed += 1
        if self.failing:
            self._until = self._clock() + self._rest
