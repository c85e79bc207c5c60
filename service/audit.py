"""The audit log: who administrated what, from where, and how it ended. One JSON line each.

It goes to the log as the logger ``plaudit.audit``, and to a file where one is named. A file that
cannot be written stops nobody: that is counted and logged.
"""

import logging
import os
import re
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from prometheus_client import Counter

from service.logs import JsonFormatter, log

LOGGER = logging.getLogger("plaudit.audit")
# Whoever tries without a key can do so without end: so many lines in a minute, the rest counted.
# Those with a key that opens too little have as many of their own.
REFUSED_PER_MINUTE = 30
MINUTE_SECONDS = 60.0
# Names of ours, revisions, and nothing that could be a text or forge one.
HARMLESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:%-]{0,127}")
# A FIFO that nobody reads would hold up the server, and a link could lead to another's file.
OPENING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


class Allowance:
    """So many lines a minute."""

    def __init__(self) -> None:
        self._minute, self._taken = -MINUTE_SECONDS, 0

    def take(self) -> bool:
        now = time.monotonic()
        if now - self._minute >= MINUTE_SECONDS:
            self._minute, self._taken = now, 0
        self._taken += 1
        return self._taken <= REFUSED_PER_MINUTE


class Audit:
    """``failures`` counts lines that did not reach ``file``, ``left_out`` by kind those of
    refusals that were too many."""

    def __init__(self, file: Path | None, failures: Counter, left_out: Counter):
        self._file, self._failures, self._left_out = file, failures, left_out
        self._formatter = JsonFormatter()
        self._allowances: dict[str, Allowance] = defaultdict(Allowance)
        self._is_torn = False

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

    def refused(self, what: str, kind: str, **fields: object) -> None:
        """The same of who was not let in, of each kind at most REFUSED_PER_MINUTE times a
        minute."""
        if self._allowances[kind].take():
            self.record(what, "refused", kind=kind, **fields)
        else:
            self._left_out.labels(kind).inc()

    def _append(self, file: Path, line: str) -> None:
        """In one write, to a file that is opened anew: it may have been moved away meanwhile."""
        whole = (b"\n" if self._is_torn else b"") + line.encode()
        try:
            opened = os.open(file, OPENING, 0o600)
            try:
                written = os.write(opened, whole)
            finally:
                os.close(opened)
        except OSError as error:
            self._lost(error.strerror or "no reason given")
            return
        self._is_torn = written < len(whole)
        if self._is_torn:
            self._lost("the disk is full")

    def _lost(self, reason: str) -> None:
        self._failures.inc()
        log.error("a line of the audit log was not written to --audit-file: %s", reason)


@dataclass(frozen=True)
class By:
    """Who asks for something: ``who``, the name of a key, from an address, in which request."""

    who: str | None
    address: str
    instance: str

    def said(self) -> dict[str, object]:
        """The fields of a line; by ``instance`` those of one request are found."""
        return {"who": self.who, "from": self.address, "instance": self.instance}


class Act:
    """One request to administrate."""

    def __init__(self, audit: Audit, what: str, by: By):
        self._audit, self._what, self._by = audit, what, by

    def begins(self, who: str) -> By:
        """What is asked is understood, and the key is that of ``who``."""
        self._by = replace(self._by, who=who)
        self._audit.record(self._what, "accepted", **self._by.said())
        return self._by

    def ends(self, outcome: str, who: str | None, status: int) -> None:
        said = replace(self._by, who=who).said()
        self._audit.record(self._what, outcome, **said, status=status)


def is_harmless(value: object) -> bool:
    if isinstance(value, str):
        return HARMLESS.fullmatch(value) is not None
    return value is None or isinstance(value, int | float | list)
