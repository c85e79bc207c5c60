"""What is said of a neighbour that fails: each way to fail once a minute, not once a request."""

import logging
import time

from service.redaction import redacted, secrets_of, without_password

log = logging.getLogger("plaudit")
QUIET_SECONDS = 60.0
# Of what the other side says, of which no more is kept than a person needs.
MOST_CHARACTERS = 200


class Complaints:
    """Log lines about the Redis of a URL, of which passwords are not shown."""

    def __init__(self, url: str):
        self._shown, self._secrets = without_password(url), secrets_of(url)
        self._said: dict[tuple[str, str], float] = {}

    def say(self, what: str, op: str, error: Exception) -> None:
        """``what`` is how it failed: "fails", "refuses". The classes of errors are few."""
        kind = type(error).__name__
        now = time.monotonic()
        if now - self._said.get((op, kind), -QUIET_SECONDS) < QUIET_SECONDS:
            return
        self._said[op, kind] = now
        said = redacted(str(error), self._secrets)[:MOST_CHARACTERS]
        fields = {"redis": self._shown, "op": op, "error": kind, "said": said}
        log.warning(f"redis {what}", extra={"fields": fields})

    def turn(self, state: str) -> None:
        """It is "left alone", or "used again"."""
        log.warning(f"redis {state}", extra={"fields": {"redis": self._shown}})
