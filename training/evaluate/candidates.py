"""What the arguments of ``plaudit evaluate`` name: checkpoints, ensembles and bundles of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plaudit import checkpoint, joint_file
from plaudit.aggregate import aggregate
from plaudit.checkpoint import CheckpointError, Manifest
from plaudit.ensemble import EnsembleFile
from plaudit.joint_file import JointFile
from plaudit.objectives import ObjectivesFile, weighted_sum
from plaudit.wire import Aggregate
from training.evaluate.baselines import LENGTH_ONLY
from training.measure import Array

ENS, OBJECTIVES = "ens", "objectives"
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

    def combine(self, rewards: Array) -> Array:
        """One reward (N,) of the members' (N, M)."""
        return aggregate(rewards, self.aggregate, self.coefficient)


@dataclass(frozen=True)
class Bundle:
    """A file of objectives with its members by the names of their rows; weights by objective."""

    name: str
    path: Path
    members: tuple[str, ...]
    weights: dict[str, float]

    def combine(self, rewards: Array) -> Array:
        """Weighted sums (N,) of the members' rewards (N, M)."""
        return weighted_sum(rewards, [*self.weights.values()])


@dataclass(frozen=True)
class Candidates:
    """Every checkpoint once, and the ensembles and bundles over them."""

    checkpoints: dict[str, Checkpoint]
    ensembles: list[Ensemble]
    bundles: list[Bundle]

    @property
    def combined(self) -> list[Ensemble | Bundle]:
        return [*self.ensembles, *self.bundles]


def read(arguments: Sequence[Path]) -> Candidates:
    """The checkpoints, ensembles and bundles that ``arguments`` name.

    Whatever cannot be evaluated is refused here, before the first score.
    """
    files: dict[Path, JointFile] = {}
    directories: dict[Path, None] = {}
    for path in arguments:
        if path.is_file():
            files[path.resolve()] = file = joint_file.read(path)
            directories |= dict.fromkeys((path.parent / m).resolve() for m in file.members)
        elif path.is_dir():
            directories[path.resolve()] = None
        else:
            raise CheckpointError(
                f"{path}: neither a checkpoint directory nor an ensemble or objectives file"
            )
    names = dict(zip(directories, endings([*directories]), strict=True))
    checkpoints = {name: describe(name, path) for path, name in names.items()}
    found = Candidates(checkpoints, [], [])
    labels = [""] if len(files) == 1 else [f" {ending}" for ending in endings([*files])]
    for label, (path, file) in zip(labels, files.items(), strict=True):
        members = tuple(names[(path.parent / member).resolve()] for member in file.members)
        check_calibrated(path, file, [checkpoints[member] for member in members])
        if isinstance(file, EnsembleFile):
            joint = Ensemble(ENS + label, path, members, file.aggregate, file.coefficient)
            found.ensembles.append(joint)
        else:
            found.bundles.append(Bundle(OBJECTIVES + label, path, members, file.weights))
    return found


def endings(paths: Sequence[Path]) -> list[str]:
    """The shortest endings of absolute paths that tell them apart, and from our own rows."""
    reserved = {ENS, OBJECTIVES, LENGTH_ONLY}
    depth = 1
    while True:
        found = [str(Path(*path.parts[-depth:])) for path in paths]
        if len(reserved.union(found)) == len(reserved) + len(paths):
            return found
        depth += 1


def describe(name: str, path: Path) -> Checkpoint:
    return Checkpoint(name, path, *checkpoint.describe(path, PLAIN_MAX_TOKENS))


def check_calibrated(path: Path, file: JointFile, members: Sequence[Checkpoint]) -> None:
    """As a service would: weights need a scale, and so do several members of an ensemble."""
    bare = [m.name for m in members if m.manifest.calibration.kind == "none"]
    if bare and (len(members) > 1 or isinstance(file, ObjectivesFile)):
        raise CheckpointError(
            f"{path}: {', '.join(bare)} not calibrated, so rewards of different scales would be "
            "combined; make full checkpoints of them first"
        )
