"""The attempts at one request: whom the next one goes to, and how long it waits."""

from dataclasses import dataclass

from plaudit.client.errors import ProblemError, Unreachable
from plaudit.client.replicas import Replicas
from plaudit.client.requests import Call
from plaudit.client.retry import Deadline, Retry


@dataclass
class Attempts:
    """A replica that cannot be reached is left for the next at once, which is no retry; when none
    is left they are tried in turn, with pauses."""

    call: Call
    replicas: Replicas
    retry: Retry
    deadline: Deadline
    retries: int = 0

    def base_url(self) -> str:
        return self.replicas.pick(self.call.replicas, self.retries)

    def pause_or_raise(
        self, base_url: str, error: ProblemError | Unreachable, chance: float
    ) -> float:
        """Seconds before the attempt after the one at ``base_url``. Raises as ``Retry``."""
        if isinstance(error, Unreachable) and error.retryable:
            self.replicas.rest(base_url)
            if self.replicas.any_awake(self.call.replicas):
                return 0.0
        pause = self.retry.pause_or_raise(self.retries, error, self.deadline, chance)
        self.retries += 1
        return pause
