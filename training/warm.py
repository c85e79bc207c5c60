"""``plaudit warm``: members' weights averaged into one reward model (WARM, arXiv:2401.12187)."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from plaudit import checkpoint
from plaudit.checkpoint import CheckpointError, Manifest, Member
from plaudit.conversation import Encoder
from plaudit.reward_model import RewardModel
from training import average, settings
from training.data.encoding import EncodedPair
from training.measure import Array, accuracy, rewards, score_pairs
from training.precision import measuring_dtype
from training.seal import seal
from training.settings import SettingsError, TrainSettings
from training.train import commit
from training.training_data import read, validation_pairs


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="plaudit warm", description=__doc__)
    parser.add_argument("members", nargs="+", type=Path, help="checkpoints of one ensemble")
    parser.add_argument("--out", type=Path, required=True, help="directory of the average")
    parser.add_argument(
        "--data",
        type=Path,
        help="training settings whose validation side measures; default: the first member's own",
    )
    options = parser.parse_args(argv)
    warm(options.members, options.out, options.data)
    return 0


def warm(directories: Sequence[Path], out: Path, data: Path | None = None) -> None:
    """Average, measure again, seal, and print accuracies beside the members' and the ensemble's."""
    if checkpoint.is_complete(out):
        raise SettingsError(f"{out} is a complete checkpoint; choose another --out")
    if len(directories) < 2:
        raise SettingsError("one member is its own average; name at least two")
    manifests, revisions = zip(*map(checkpoint.read, directories), strict=True)
    average.check(directories, manifests)
    pairs = reference(directories[0], manifests[0], data)
    out.mkdir(parents=True, exist_ok=True)
    coefficients = [1 / len(directories)] * len(directories)
    average.average(directories, coefficients, out)
    for path in checkpoint.files(directories[0]):
        if path.suffix != ".safetensors":
            shutil.copyfile(path, out / path.name)
    reads_length = manifests[0].calibration.reads_length
    margins = [member_margins(directory, pairs) for directory in directories]
    accuracies = {d.name: accuracy(m) for d, m in zip(directories, margins, strict=True)}
    accuracies["ens"] = accuracy(np.mean(margins, axis=0))
    members = [
        Member(str(directory), revision, coefficient)
        for directory, revision, coefficient in zip(
            directories, revisions, coefficients, strict=True
        )
    ]
    draft = msgspec.structs.replace(
        manifests[0],
        kind="warm",
        members=tuple(members),
        digests=checkpoint.digests(out),
        training={"commit": commit(), "method": "uniform", "beside": accuracies},
    )
    measured = seal(out, draft, pairs, "length" if reads_length else "standardise")
    for name, value in (accuracies | {"warm": measured.accuracy}).items():
        print(f"{name:12} validation accuracy {value:.3f} ({len(pairs)} pairs)")


def reference(directory: Path, manifest: Manifest, data: Path | None) -> list[EncodedPair]:
    """The validation pairs that measure: of ``--data``, or those the member was measured on."""
    if data is not None:
        config = settings.load(TrainSettings, data)
    else:
        recorded = manifest.training.get("settings")
        if recorded is None:
            raise CheckpointError(f"{directory}: training.settings is missing; give --data")
        config = settings.parse(TrainSettings, recorded, f"{directory}: training.settings")
    encoder = Encoder.load(directory, manifest.max_tokens)
    return validation_pairs(config, read(config), encoder, manifest.truncation_side)


def member_margins(directory: Path, pairs: Sequence[EncodedPair]) -> Array:
    """A member's calibrated margins (P,): on one scale with the other members'."""
    model = RewardModel.load(directory, dtype=measuring_dtype())
    measured = score_pairs(model, pairs)
    found = rewards(measured, model.manifest.calibration, [pair.pair for pair in pairs])
    return found.chosen - found.rejected
