"""Where a backbone comes from: the base of its SFT run, the run, and the step.

Members of one WARM average may start from different checkpoints of one SFT run, called Baklava in
arXiv:2401.12187: they share the run's base and its path, which keeps their weights averageable.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from plaudit.checkpoint import Base
from plaudit.whole_file import write_whole
from training import backbone
from training.settings import SettingsError

FILE = "lineage.json"


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a checkpoint of ``plaudit sft``: ``run`` is the digest of base, settings and data,
    ``weights`` that of the checkpoint's own files."""

    base: Base
    run: str
    step: int
    weights: str
    settings: dict[str, Any]
    data: dict[str, str]


def read(directory: Path) -> Lineage | None:
    """None of a backbone that is no checkpoint of ours."""
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Lineage)
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: {error}; restore it, or save the checkpoint again") from None


def write(directory: Path, lineage: Lineage) -> None:
    """Last, so that a checkpoint that has it is complete."""
    write_whole(directory / FILE, msgspec.json.format(msgspec.json.encode(lineage), indent=1))


def base_of(start: str) -> Base:
    """What ``reward.json`` records of the backbone that a member starts from: itself, or the base
    of the run that it is a checkpoint of."""
    own = backbone.base(start)
    found = read(Path(start))
    if found is None:
        return own
    if found.weights != own.digest:
        raise SettingsError(
            f"{start}: the weights are not those of {FILE}; restore them, or remove {FILE} to take "
            "the checkpoint for a base of its own"
        )
    return msgspec.structs.replace(found.base, run=found.run, start=own.digest)


def refuse_strangers(starts: Sequence[str]) -> None:
    """Refuse members whose weights could not be averaged, before they are trained."""
    first, *others = dict.fromkeys(starts)
    if not others:
        return
    one = base_of(first)
    for start in others:
        other = base_of(start)
        if (one.digest, one.run) != (other.digest, other.run):
            raise SettingsError(
                f"members start from {first} and {start}, which are not of one SFT run: their "
                "weights could not be averaged. Name checkpoints of one plaudit sft"
            )
