"""The attempts at one request: whom the next one goes to, and how long it waits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from plaudit.client.errors import ProblemError, Unreachable
from plaudit.client.replicas import Replicas
from plaudit.client.requests import Call
from plaudit.client.retry import Deadline, Retry, logger


@dataclass
class Attempts:
    """A replica that cannot be reached is left for the next at once, which is no retry. When none
    is left that was not tried yet, that is one, with a pause, and all may be tried again.

    ``deadline`` comes to know the last error."""

    call: Call
    replicas: Replicas
    retry: Retry
    deadline: Deadline
    retries: int = 0
    _tried: set[str] = field(default_factory=set)

    def base_url(self) -> str:
        untried = self._untried()
        left = untried if self.replicas.any_awake(untried) else self.call.replicas
        return self.replicas.pick(left, self.retries)

    def pause_or_raise(
        self, base_url: str, error: ProblemError | Unreachable, chance: float
    ) -> float:
        """Seconds before the attempt after the one at ``base_url``. Raises as ``Retry``."""
        error.request_id = self.call.request_id
        self.deadline = replace(self.deadline, last=error)
        if isinstance(error, Unreachable) and error.retryable:
            self.replicas.rest(base_url)
            self._tried.add(base_url)
            if self.replicas.any_awake(self._untried()):
                logger.log(self.retry.log_level, "%s; the next replica is asked", error)
                return 0.0
        pause = self.retry.pause_or_raise(self.retries, error, self.deadline, chance)
        self.retries += 1
        self.call = replace(self.call, retries=self.retries)
        self._tried.clear()
        return pause

    def _untried(self) -> Sequence[str]:
        return [url for url in self.call.replicas if url not in self._tried]
