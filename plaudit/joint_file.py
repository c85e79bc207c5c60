"""A YAML file over several checkpoints: an ensemble's, or that of several objectives.

Which of them it is, is what it declares: ``members`` or ``objectives``.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
import yaml

from plaudit import strict_yaml
from plaudit.checkpoint import CheckpointError
from plaudit.ensemble import EnsembleFile
from plaudit.objectives import ObjectivesFile

JointFile = EnsembleFile | ObjectivesFile
KINDS: dict[str, type[JointFile]] = {"members": EnsembleFile, "objectives": ObjectivesFile}


def read(path: Path) -> JointFile:
    """What a file declares. CheckpointError names the field that does not fit."""
    try:
        declared = strict_yaml.load(path.read_text())
        found = msgspec.convert(declared, _kind(declared, path))
    except yaml.MarkedYAMLError as error:
        raise CheckpointError(_where(path, error)) from None
    except (msgspec.ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    if isinstance(found, EnsembleFile):
        directories = {name: path.parent / name for name in found.members}
        refuse_twice(str(path), directories, found.members)
    return found


def refuse_twice(where: str, directories: Mapping[str, Path], members: Sequence[str]) -> None:
    """CheckpointError for an ensemble, declared at ``where``, that counts one model twice: its
    members would seem to agree more than they do. ``directories`` are by the names of members."""
    first: dict[Path, str] = {}
    for name in members:
        directory = directories[name].resolve()
        if directory in first:
            also = "" if first[directory] == name else f", as {first[directory]} too"
            raise CheckpointError(
                f"{where}: members: {name} is named twice{also}, and would count twice; "
                "name each model once"
            )
        first[directory] = name


def _where(path: Path, error: yaml.MarkedYAMLError) -> str:
    """FILE:LINE:COLUMN and what is wrong there, in one line."""
    mark = error.problem_mark or error.context_mark
    place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    return f"{place}: {' '.join((error.problem or error.context or 'no YAML').split())}"


def directories(path: Path, models: Sequence[str]) -> list[Path]:
    """Where the models of a file lie. CheckpointError for the first that is not there."""
    found = [path.parent / model for model in models]
    for model, directory in zip(models, found, strict=True):
        if not directory.exists():
            raise CheckpointError(
                f"{path}: {model}: nothing is at {directory.absolute()}; paths are relative to the "
                "file"
            )
    return found


def _kind(declared: Any, path: Path) -> type[JointFile]:
    found = [key for key in KINDS if isinstance(declared, dict) and key in declared]
    if len(found) != 1:
        raise CheckpointError(
            f"{path}: declares {'both' if found else 'neither'} members (an ensemble) "
            f"{'and' if found else 'nor'} objectives (a weighted sum); it needs one of the two"
        )
    return KINDS[found[0]]


def nothing_at(path: Path) -> str:
    """What to say of a path that is not there: where it was looked for, and the nearest name."""
    where = path.absolute()
    beside = [one.name for one in where.parent.iterdir()] if where.parent.is_dir() else []
    nearest = get_close_matches(path.name, beside, 1)
    meant = f"; did you mean {path.with_name(nearest[0])}?" if nearest else ""
    return (
        f"{path}: nothing is at {where}{meant}; name a checkpoint directory, or an ensemble or "
        "objectives file"
    )
