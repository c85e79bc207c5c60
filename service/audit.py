"""The audit log: who administrated what, from where, and how it ended. One JSON line each.

It goes to the log as the logger ``plaudit.audit``, and to a file where one is named. A file that
cannot be written stops nobody: that is counted and logged.
"""

import logging
import os
import re
import time
from pathlib import Path

from prometheus_client import Counter

from service.logs import JsonFormatter, log

LOGGER = logging.getLogger("plaudit.audit")
# Whoever tries without a key can do so without end: so many lines in a minute, the rest counted.
REFUSED_PER_MINUTE = 30
MINUTE_SECONDS = 60.0
# Names of ours, revisions, and nothing that could be a text or forge one.
HARMLESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:-]{0,127}")


class Audit:
    """``failures`` counts lines that did not reach ``file``."""

    def __init__(self, file: Path | None, failures: Counter):
        self._file, self._failures = file, failures
        self._formatter = JsonFormatter()
        self._minute, self._refused, self._left_out = -MINUTE_SECONDS, 0, 0

    def record(self, what: str, outcome: str, **fields: object) -> None:
        """``what`` was done or asked, and its ``outcome``. Of ``fields`` those are written that
        are numbers, lists of our own, or harmless names."""
        harmless = {name: value for name, value in fields.items() if is_harmless(value)}
        said = {"logger": LOGGER.name, "outcome": outcome} | harmless
        line = LOGGER.makeRecord(
            LOGGER.name, logging.INFO, __file__, 0, what, (), None, extra={"fields": said}
        )
        LOGGER.handle(line)
        if self._file is not None:
            self._append(self._file, self._formatter.format(line) + "\n")

    def refused(self, what: str, **fields: object) -> None:
        """The same of who was not let in, at most REFUSED_PER_MINUTE times a minute."""
        now = time.monotonic()
        if now - self._minute >= MINUTE_SECONDS:
            self._minute, self._refused = now, 0
        self._refused += 1
        if self._refused > REFUSED_PER_MINUTE:
            self._left_out += 1
            return
        if self._left_out:
            fields["left_out"], self._left_out = self._left_out, 0
        self.record(what, "refused", **fields)

    def _append(self, file: Path, line: str) -> None:
        """In one write, to a file that is opened anew: it may have been moved away meanwhile."""
        whole = line.encode()
        try:
            opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                written = os.write(opened, whole)
            finally:
                os.close(opened)
        except OSError as error:
            self._lost(error.strerror or "no reason given")
        else:
            if written < len(whole):
                self._lost("the disk is full")

    def _lost(self, reason: str) -> None:
        self._failures.inc()
        log.error("a line of the audit log was not written to --audit-file: %s", reason)


class Act:
    """One request to administrate: by ``who``, the name of a key, from an address."""

    def __init__(self, audit: Audit, what: str, address: str, instance: str):
        self._audit, self._what = audit, what
        self._said: dict[str, object] = {"who": None, "from": address, "instance": instance}

    def begins(self, who: str, **names: object) -> None:
        """What is asked is understood, and ``names`` are those in it."""
        self._said |= {"who": who} | names
        self._audit.record(self._what, "accepted", **self._said)

    def ends(self, outcome: str, who: str | None, **fields: object) -> None:
        self._audit.record(self._what, outcome, **self._said | {"who": who} | fields)

    def is_refused(self, kind: str) -> None:
        self._audit.refused(self._what, **self._said | {"kind": kind})


def is_harmless(value: object) -> bool:
    if isinstance(value, str):
        return HARMLESS.fullmatch(value) is not None
    return value is None or isinstance(value, int | float | list)
