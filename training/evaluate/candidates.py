"""What the arguments of ``plaudit evaluate`` name: checkpoints, ensembles and bundles of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plaudit import checkpoint, joint_file
from plaudit.aggregate import aggregate, needed
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
    """An ensemble file with its members, and its centre if it has one, by the names of their
    rows."""

    name: str
    path: Path
    members: tuple[str, ...]
    aggregate: Aggregate
    coefficient: float
    min_members: int
    centre: str | None = None

    def combine(self, rewards: Mapping[str, Array]) -> Array:
        """One reward (N,) of the checkpoints' (N,) by their names; NaN where a member failed."""
        members = np.stack([rewards[name] for name in self.members], axis=1)
        centre = None if self.centre is None else rewards[self.centre]
        return aggregate(members, self.aggregate, self.coefficient, centre)

    def is_enough(self, failed: Collection[str]) -> bool:
        """Whether there is a reward without the checkpoints that failed."""
        scored = sum(name not in failed for name in self.members)
        enough = needed(self.aggregate, len(self.members), self.min_members)
        return scored >= enough and self.centre not in failed


@dataclass(frozen=True)
class Bundle:
    """A file of objectives with its members by the names of their rows; weights by objective."""

    name: str
    path: Path
    members: tuple[str, ...]
    weights: dict[str, float]

    def combine(self, rewards: Mapping[str, Array]) -> Array:
        """Weighted sums (N,) of the checkpoints' rewards (N,) by their names."""
        members = np.stack([rewards[name] for name in self.members], axis=1)
        return weighted_sum(members, [*self.weights.values()])

    def is_enough(self, failed: Collection[str]) -> bool:
        """Never without one: a part of a sum would be another."""
        return not failed


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
            directories |= dict.fromkeys((path.parent / m).resolve() for m in file.models)
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
        named = file.with_models([names[(path.parent / model).resolve()] for model in file.models])
        check_calibrated(path, file, [checkpoints[name] for name in named.models])
        if isinstance(named, EnsembleFile):
            found.ensembles.append(ensemble(ENS + label, path, named))
        else:
            joint = Bundle(OBJECTIVES + label, path, tuple(named.models), named.weights)
            found.bundles.append(joint)
    return found


def ensemble(name: str, path: Path, file: EnsembleFile) -> Ensemble:
    """Of a file that names rows in the place of directories."""
    return Ensemble(
        name,
        path,
        tuple(file.members),
        file.aggregate,
        file.coefficient,
        file.fewest,
        file.centre,
    )


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


def check_calibrated(path: Path, file: JointFile, models: Sequence[Checkpoint]) -> None:
    """As a service would: weights need a scale, and so do several models of an ensemble."""
    bare = [m.name for m in models if m.manifest.calibration.kind == "none"]
    if bare and (len(models) > 1 or isinstance(file, ObjectivesFile)):
        raise CheckpointError(
            f"{path}: {', '.join(bare)} not calibrated, so rewards of different scales would be "
            "combined; make full checkpoints of them first"
        )
