"""A YAML file over several checkpoints: an ensemble's, or that of several objectives.

Which of them it is, is what it declares: ``members`` or ``objectives``.
"""

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
        return msgspec.convert(declared, _kind(declared, path))
    except (msgspec.ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def _kind(declared: Any, path: Path) -> type[JointFile]:
    found = [key for key in KINDS if isinstance(declared, dict) and key in declared]
    if len(found) != 1:
        raise CheckpointError(
            f"{path}: declares {'both' if found else 'neither'} members (an ensemble) "
            f"{'and' if found else 'nor'} objectives (a weighted sum); it needs one of the two"
        )
    return KINDS[found[0]]
