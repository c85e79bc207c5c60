"""What a scan of a model directory says of one file."""

from typing import Literal

from msgspec import Struct

from plaudit.printable import printable

Severity = Literal["refused", "note"]


class Finding(Struct, frozen=True):
    """``refused``: nothing may be loaded from this directory. ``note``: harmless, since it is never
    opened, but worth knowing. ``file`` is relative to the directory. What a model says of itself
    stands in them so that it can be printed."""

    severity: Severity
    file: str
    what: str
    remedy: str


def refused(file: str, what: str, remedy: str) -> Finding:
    return Finding("refused", printable(file), printable(what), remedy)


def note(file: str, what: str, remedy: str) -> Finding:
    return Finding("note", printable(file), printable(what), remedy)
