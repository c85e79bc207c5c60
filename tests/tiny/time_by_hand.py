"""A clock for the client that waits for nothing."""

from dataclasses import dataclass, field

from plaudit.client.retry import Clock


@dataclass
class Time:
    """Waits by moving its own hands."""

    seconds: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        async def sleep(seconds: float) -> None:
            self.wait(seconds)

        return Clock(
            now=lambda: self.seconds,
            date=lambda: 0.0,
            wait=lambda stop, seconds: self.wait(seconds) or stop.is_set(),
            sleep=sleep,
            uniform=lambda: 0.0,
        )

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.seconds += seconds
        return False
