"""How much of the time the engine computes."""

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

SAMPLES = 60


class BusyClock:
    """Counts the time in which at least one ``with`` body runs, in any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._lock = clock, threading.Lock()
        self._running, self._since, self._done = 0, 0.0, 0.0
        self._samples: deque[tuple[float, float]] = deque([(clock(), 0.0)], maxlen=SAMPLES)

    def __enter__(self) -> None:
        with self._lock:
            if not self._running:
                self._since = self._clock()
            self._running += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self._done += self._clock() - self._since

    def seconds(self) -> float:
        """Since the start, what runs now included."""
        with self._lock:
            return self._done + (self._clock() - self._since if self._running else 0.0)

    def sample(self) -> None:
        """Remember this moment, for ``ratio``; the newest ``SAMPLES`` are kept."""
        self._samples.append((self._clock(), self.seconds()))

    def ratio(self) -> float:
        """Share of busy time since the oldest sample."""
        then, done = self._samples[0]
        passed = self._clock() - then
        return min(1.0, (self.seconds() - done) / passed) if passed > 0 else 0.0
