"""The directory below which checkpoints may be named, and where a name leads."""

import re
from pathlib import Path

from service.problems import Failure

# One part of a path, which no dot begins: no way up, no way down, nothing hidden.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def find(root: Path, name: str) -> Path:
    """The directory of a checkpoint with all links followed. Failure "malformed" for what is no
    name, "unknown-checkpoint" where nothing is, "bad-checkpoint" where a link leaves the root."""
    if NAME.fullmatch(name) is None:
        raise Failure(
            "malformed",
            "checkpoint is no name: the name of a directory in the model root, of at most 128 "
            "letters, digits, dots, underscores and hyphens",
        )
    try:
        place, top = (root / name).resolve(strict=True), root.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links that go round in circles
        raise Failure("unknown-checkpoint", f"nothing is named {name} in the model root") from None
    if top not in place.parents:
        raise Failure("bad-checkpoint", f"{name} is a link that leaves the model root")
    if not place.is_dir():
        raise Failure("unknown-checkpoint", f"{name} is no directory")
    return place
