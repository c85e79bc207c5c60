"""``plaudit warm``: members' weights averaged into one reward model (WARM, arXiv:2401.12187)."""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from plaudit import checkpoint
from plaudit.checkpoint import Manifest, Member
from training import average, coefficients, connectivity, connectivity_drawing, settings
from training.blend import Blend
from training.coefficients import Best, Given, Greedy, Method, Uniform, alike
from training.connectivity import MIN_PROMPTS, Scan
from training.measure import Array, Measured, accuracy, rewards
from training.seal import seal
from training.settings import Kind, SettingsError, TrainSettings
from training.shared_files import alone
from training.sides import Sides, prompts
from training.train import commit

POINTS = 11
# Two points: where members of one base have been seen to stay, and far from where others fall.
ALLOWED = 0.02
UNIFORM = Uniform()


@dataclass(frozen=True)
class Options:
    """``points`` places on each line between two members, none of which may be ``allowed`` below
    it unless ``force``."""

    method: Method = UNIFORM
    data: Path | None = None
    selection: Path | None = None
    points: int = POINTS
    allowed: float = ALLOWED
    force: bool = False


DEFAULT = Options()


@dataclass(frozen=True)
class Members:
    """Checkpoints of one ensemble, each with a name of its own."""

    directories: Sequence[Path]
    manifests: Sequence[Manifest]
    revisions: Sequence[str]

    @classmethod
    def read(cls, directories: Sequence[Path]) -> "Members":
        """CheckpointError where one is damaged, or where they cannot be averaged."""
        manifests, revisions = zip(*map(checkpoint.read, directories), strict=True)
        average.check(directories, manifests)
        return cls(directories, manifests, revisions)

    @property
    def names(self) -> list[str]:
        short = [directory.name for directory in self.directories]
        return short if len(set(short)) == len(short) else [str(one) for one in self.directories]


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    method: Method = UNIFORM
    if options.greedy:
        method = Greedy()
    elif options.best is not None:
        method = Best(options.best)
    elif options.coefficients is not None:
        method = Given(tuple(options.coefficients))
    warm(
        options.members,
        options.out,
        Options(
            method, options.data, options.selection, options.points, options.below, options.force
        ),
    )
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="plaudit warm", description=__doc__)
    found.add_argument("members", nargs="+", type=Path, help="checkpoints of one ensemble")
    found.add_argument("--out", type=Path, required=True, help="directory of the average")
    method = found.add_mutually_exclusive_group()
    method.add_argument(
        "--greedy", action="store_true", help="add a member where the average gets no worse by it"
    )
    method.add_argument("--best", type=int, metavar="M", help="the M most accurate members alike")
    method.add_argument(
        "--coefficients", type=float, nargs="+", metavar="C", help="one each; they sum to 1"
    )
    found.add_argument(
        "--data",
        type=Path,
        help="training settings whose validation side measures; default: the first member's own",
    )
    found.add_argument(
        "--selection",
        type=Path,
        metavar="FILE",
        help="training settings whose validation side selects and scans; default: half of the "
        "prompts of the side that measures, of which only the other half is reported then",
    )
    found.add_argument(
        "--points", type=int, default=POINTS, help="places on the line between two members"
    )
    found.add_argument(
        "--below",
        type=float,
        default=ALLOWED,
        help="accuracy that a place may be shown to be below the straight line",
    )
    found.add_argument(
        "--force", action="store_true", help="save even where members are not linearly connected"
    )
    return found


def warm(directories: Sequence[Path], out: Path, options: Options = DEFAULT) -> None:
    """Choose, scan, average, measure again and seal; print accuracies beside the members' and the
    ensemble's. No weights are written to ``out`` before the scan has passed.

    One process at a time; an average that was asked for just so and is complete is kept.
    """
    check(directories, options)
    # Or one process might open weights for writing that another has just sealed.
    with alone(out.resolve()):
        if checkpoint.is_complete(out):
            keep(Members.read(directories), out, options)
        else:
            make(directories, out, options)


def keep(members: Members, out: Path, options: Options) -> None:
    """What an earlier attempt has made; refuses any other complete checkpoint."""
    manifest, _ = checkpoint.read(out)
    if manifest.training.get("asked") != asked(members, options):
        raise SettingsError(
            f"{out} is a complete checkpoint, and not the {options.method.name} average that is "
            "asked for; choose another --out"
        )
    print(f"{out}: complete already", flush=True)


def asked(members: Members, options: Options) -> str:
    """Digest of what an average is asked to be: the method with its numbers, the settings whose
    pairs it selects by, and the members."""
    files = [options.data, options.selection] if options.method.selects else []
    parts = [repr(options.method), *map(written, files), *members.revisions]
    return checkpoint.sha256(*(part.encode() for part in parts))


def written(file: Path | None) -> str:
    """What stands in a file of settings, however it is laid out."""
    if file is None:
        return ""
    return settings.load(TrainSettings, file).model_dump_json(exclude_unset=True)


def make(directories: Sequence[Path], out: Path, options: Options) -> None:
    members = Members.read(directories)
    sides = Sides.of(directories[0], members.manifests[0], options.data, options.selection)
    sides.check(options.method.selects)
    blend = Blend(directories, members.manifests[0])
    chosen = choose(members, blend, sides, options)
    out.mkdir(parents=True, exist_ok=True)
    if chosen.scan.lines:
        connectivity_drawing.write(chosen.scan, out)
    if not options.force:
        chosen.scan.refuse_fallen()
    beside = accuracies_beside(members, blend, sides)
    training = chosen.record(members, sides, options) | {"beside": beside}
    del blend  # seal loads models of its own
    draft = save(members, chosen.coefficients, out, training)
    kind: Kind = "length" if draft.calibration.reads_length else "standardise"
    measured = seal(out, draft, sides.reference, kind, sides.reported)
    for name, value in (beside | {"warm": measured.accuracy}).items():
        print(f"{name:12} validation accuracy {value:.3f} ({len(sides.measured)} pairs)")


def check(directories: Sequence[Path], options: Options) -> None:
    """Refuse what needs no file to be seen."""
    if len(directories) < 2:
        raise SettingsError("one member is its own average; name at least two")
    if options.points < 3:
        raise SettingsError(f"--points {options.points}: at least 3, of which two are the members")
    if not options.allowed >= 0:
        raise SettingsError(f"--below {options.allowed:g}: must be at least 0")
    coefficients.check(options.method, len(directories))


@dataclass(frozen=True)
class Chosen:
    """The coefficient of each member, the members' accuracies on the selection pairs, and the scan
    of those that have one."""

    coefficients: list[float]
    accuracies: list[float]
    scan: Scan

    def record(self, members: Members, sides: Sides, options: Options) -> dict[str, Any]:
        return {
            "commit": commit(),
            "method": options.method.name,
            "asked": asked(members, options),
            "selection": {
                "of": sides.named,
                "pairs": len(sides.selection),
                "prompts": len(prompts(sides.selection)),
                "accuracies": dict(zip(members.names, self.accuracies, strict=True)),
            },
            "connectivity": self.scan.summary(),
        }


def choose(members: Members, blend: Blend, sides: Sides, options: Options) -> Chosen:
    """By the selection pairs alone."""
    prepared = blend.prepare(sides.selection)
    count = len(members.directories)

    def judge(weights: Sequence[float]) -> float:
        return blend.score(weights, prepared).accuracy

    own = [judge(alike([member], count)) for member in range(count)]
    found = coefficients.choose(options.method, own, judge)
    names = {m: name for m, name in enumerate(members.names) if found[m]}
    print(f"{options.method.name}: " + ", ".join(f"{found[m]:.3g} {names[m]}" for m in names))
    asked = [one.pair.first_turn for one in sides.selection]
    scan = connectivity.scan(blend, names, prepared, asked, options.points, options.allowed)
    for line in scan.lines:
        print(f"{line} ({scan.pairs} pairs)", flush=True)
    if scan.lines and not scan.decides:
        print(f"{scan.prompts} prompts are too few to refuse by: {MIN_PROMPTS} at least would do")
    return Chosen(found, own, scan)


def accuracies_beside(members: Members, blend: Blend, sides: Sides) -> dict[str, float]:
    """Of each member and of their ensemble, on the reported pairs."""
    prepared = blend.prepare(sides.measured)
    margins = [
        calibrated_margins(blend.score(alike([member], blend.members), prepared), manifest, sides)
        for member, manifest in enumerate(members.manifests)
    ]
    found = {name: accuracy(own) for name, own in zip(members.names, margins, strict=True)}
    return found | {"ens": accuracy(np.mean(margins, axis=0))}


def calibrated_margins(measured: Measured, manifest: Manifest, sides: Sides) -> Array:
    """A member's margins (P,) on one scale with the other members'."""
    found = rewards(measured, manifest.calibration, [one.pair for one in sides.measured])
    return found.chosen - found.rejected


def save(
    members: Members, weights: Sequence[float], out: Path, training: dict[str, Any]
) -> Manifest:
    """Write the average with the first member's other files; return what is to be sealed."""
    kept = [member for member, coefficient in enumerate(weights) if coefficient]
    directories = [members.directories[member] for member in kept]
    average.average(directories, [weights[member] for member in kept], out)
    for path in checkpoint.files(members.directories[0]):
        if path.suffix != ".safetensors":
            copy = out / path.relative_to(members.directories[0])
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
    return msgspec.structs.replace(
        members.manifests[0],
        kind="warm",
        # Each member has a start of its own.
        base=msgspec.structs.replace(members.manifests[0].base, start=None),
        members=tuple(
            Member(str(members.directories[member]), members.revisions[member], weights[member])
            for member in kept
        ),
        digests=checkpoint.digests(out),
        training=training,
    )
