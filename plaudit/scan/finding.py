"""What a scan of a model directory says of one file."""

from typing import Literal

from msgspec import Struct

Severity = Literal["refused", "note"]


class Finding(Struct, frozen=True):
    """``refused``: nothing may be loaded from this directory. ``note``: harmless, since it is never
    opened, but worth knowing. ``file`` is relative to the directory."""

    severity: Severity
    file: str
    what: str
    remedy: str


def refused(file: str, what: str, remedy: str) -> Finding:
    return Finding("refused", file, what, remedy)


def note(file: str, what: str, remedy: str) -> Finding:
    return Finding("note", file, what, remedy)
