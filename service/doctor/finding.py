"""One line of the doctor's report."""

from typing import Literal

import msgspec

State = Literal["ok", "warning", "failed"]


class Finding(msgspec.Struct, frozen=True):
    """``failed`` keeps a server from starting or answering; a ``warning`` costs speed or safety.
    ``mend`` is a command or the sentence that mends it."""

    name: str
    state: State
    says: str
    mend: str | None = None


def ok(name: str, says: str) -> Finding:
    return Finding(name, "ok", says)


def warning(name: str, says: str, mend: str) -> Finding:
    return Finding(name, "warning", says, mend)


def failed(name: str, says: str, mend: str) -> Finding:
    return Finding(name, "failed", says, mend)
