"""A loop whose time passes at once: what sleeps longest wakes last, and nobody waits."""

import asyncio
import selectors


class Skipping(selectors.SelectSelector):
    """Time goes on by as much as the loop wanted to wait."""

    now = 0.0

    def select(self, timeout=None):
        found = super().select(0)
        if not found and timeout:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.skipping = Skipping()
        super().__init__(self.skipping)
        self._clock_resolution = 1e-9

    def time(self):
        return self.skipping.now


def run(coroutine):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
