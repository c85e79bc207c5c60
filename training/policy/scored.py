"""A file of candidates with rewards, made once."""

import sys
from collections.abc import Sequence
from pathlib import Path

from training.data.jsonlines import DataError
from training.policy import candidates, rewards
from training.policy.candidates import Candidates
from training.policy.rewards import Service


def make(
    out: Path, rows: Sequence[Candidates], service: Service, expected: str | None = None
) -> list[Candidates]:
    """The rows of ``out``: those that are there, or else ``rows`` with rewards of the service now,
    of the revision ``expected``. DataError where those that are there are of others."""
    if out.is_file():
        return read(out, rows, expected or service.revision)
    found = rewards.score(service, rows, expected)
    count = sum(len(one.responses) for one in rows)
    said = f", without a reward {found.errors}" if found.errors else ""
    print(f"{found.model} {found.revision[:19]}: {count} responses{said}", file=sys.stderr)
    if sum(found.errors.values()) == count:
        raise DataError(f"{service.url}: no response of {count} has a reward: {found.errors}")
    candidates.write(out, found.rows)
    return found.rows


def read(out: Path, rows: Sequence[Candidates], expected: str | None) -> list[Candidates]:
    found = candidates.read(out)
    if [(one.prompt, one.responses) for one in found] != [(o.prompt, o.responses) for o in rows]:
        raise DataError(f"{out} holds other responses than are to be scored: remove it")
    if expected is not None and any(one.revision != expected for one in found):
        raise DataError(f"{out} holds rewards of another revision than {expected}: remove it")
    return found


def revision_of(rows: Sequence[Candidates]) -> str | None:
    """What scored them; None if nothing did."""
    return next((one.revision for one in rows if one.revision is not None), None)
