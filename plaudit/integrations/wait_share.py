"""How much of a training run is spent waiting for rewards."""

import time
from collections.abc import Callable


class WaitShare:
    """Share of the time since the last answer that went by between question and answer."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._asked = self._answered = now()

    def ask(self) -> None:
        self._asked = self._now()

    def answer(self) -> float:
        """From 0 to 1, of the period that ends now. The first began when this was made."""
        now = self._now()
        period, waited = now - self._answered, now - self._asked
        self._answered = now
        return waited / period if period > 0 else 0.0
