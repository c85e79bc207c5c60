"""What the arguments of ``plaudit evaluate`` name: checkpoints, and ensembles of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plaudit import checkpoint, ensemble
from plaudit.checkpoint import CheckpointError, Manifest
from plaudit.wire import Aggregate
from training.evaluate.baselines import LENGTH_ONLY

ENS = "ens"
# Where a plain model, which has no reward.json to say it, is cut.
PLAIN_MAX_TOKENS = 4096


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest is verified and whose weights are not in memory."""

    name: str
    path: Path
    manifest: Manifest
    revision: str


@dataclass(frozen=True)
class Ensemble:
    """An ensemble file with its members by the names of their rows."""

    name: str
    path: Path
    members: tuple[str, ...]
    aggregate: Aggregate
    coefficient: float


@dataclass(frozen=True)
class Candidates:
    """Every checkpoint once, and the ensembles over them."""

    checkpoints: dict[str, Checkpoint]
    ensembles: list[Ensemble]


def read(arguments: Sequence[Path]) -> Candidates:
    """The checkpoints and ensembles that ``arguments`` name.

    Whatever cannot be evaluated is refused here, before the first score.
    """
    files: dict[Path, ensemble.EnsembleFile] = {}
    directories: dict[Path, None] = {}
    for path in arguments:
        if path.is_file():
            files[path.resolve()] = found = ensemble.read(path)
            directories |= dict.fromkeys((path.parent / m).resolve() for m in found.members)
        elif path.is_dir():
            directories[path.resolve()] = None
        else:
            raise CheckpointError(f"{path}: neither a checkpoint directory nor an ensemble file")
    names = dict(zip(directories, endings([*directories]), strict=True))
    checkpoints = {name: describe(name, path) for path, name in names.items()}
    ensembles = []
    labels = [ENS] if len(files) == 1 else [f"{ENS} {e}" for e in endings([*files])]
    for label, (path, file) in zip(labels, files.items(), strict=True):
        members = tuple(names[(path.parent / member).resolve()] for member in file.members)
        check_calibrated(path, [checkpoints[member] for member in members])
        ensembles.append(Ensemble(label, path, members, file.aggregate, file.coefficient))
    return Candidates(checkpoints, ensembles)


def endings(paths: Sequence[Path]) -> list[str]:
    """The shortest endings of absolute paths that tell them apart, and from our own rows."""
    reserved = {ENS, LENGTH_ONLY}
    depth = 1
    while True:
        found = [str(Path(*path.parts[-depth:])) for path in paths]
        if len(reserved.union(found)) == len(reserved) + len(paths):
            return found
        depth += 1


def describe(name: str, path: Path) -> Checkpoint:
    return Checkpoint(name, path, *checkpoint.describe(path, PLAIN_MAX_TOKENS))


def check_calibrated(path: Path, members: Sequence[Checkpoint]) -> None:
    bare = [m.name for m in members if m.manifest.calibration.kind == "none"]
    if bare and len(members) > 1:
        raise CheckpointError(
            f"{path}: {', '.join(bare)} not calibrated, so rewards of different scales would be "
            "combined; make full checkpoints of them first"
        )
