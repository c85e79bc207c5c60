"""A YAML file over several checkpoints: an ensemble's, or that of several objectives.

Which of them it is, is what it declares: ``members`` or ``objectives``.
"""

from collections.abc import Callable
from pathlib import Path

import yaml

from plaudit import ensemble, objectives
from plaudit.checkpoint import CheckpointError
from plaudit.ensemble import EnsembleFile
from plaudit.objectives import ObjectivesFile

JointFile = EnsembleFile | ObjectivesFile
READERS: dict[str, Callable[[Path], JointFile]] = {
    "members": ensemble.read,
    "objectives": objectives.read,
}


def read(path: Path) -> JointFile:
    """What a file declares. CheckpointError names what does not fit."""
    try:
        declared = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    found = [key for key in READERS if isinstance(declared, dict) and key in declared]
    if len(found) != 1:
        raise CheckpointError(
            f"{path}: declares {'both' if found else 'neither'} members (an ensemble) "
            f"{'and' if found else 'nor'} objectives (a weighted sum); it needs one of the two"
        )
    return READERS[found[0]](path)
