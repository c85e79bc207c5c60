"""``plaudit calibrate``: a checkpoint's twin whose rewards do not follow the response's length."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from plaudit import checkpoint
from plaudit.checkpoint import Manifest
from plaudit.reward_model import RewardModel
from training import settings
from training.data import sources
from training.data.encoding import encode
from training.data.shapes import Pair
from training.evaluate import evaluation
from training.evaluate.baselines import length_correlation
from training.evaluate.evaluation import SIDES
from training.length_bias.curve import SHARE, length_calibration
from training.measure import Measured, accuracy, rewards, score_pairs, stats
from training.precision import measuring_dtype
from training.settings import DataSettings, SettingsError


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    if not 0 < options.share <= 1:
        raise SettingsError(f"--share {options.share}: give a share above 0, at most 1")
    config = settings.load(DataSettings, options.data, options.overrides)
    calibrate(options.checkpoint, options.out, config, options.split, options.share)
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="plaudit calibrate", description=__doc__)
    found.add_argument("checkpoint", type=Path, help="a complete checkpoint")
    found.add_argument("overrides", nargs="*", metavar="key=value", help="of a setting in --data")
    found.add_argument("--data", type=Path, required=True, help="YAML file: sources and split")
    found.add_argument("--out", type=Path, required=True, help="directory of the twin")
    found.add_argument(
        "--split",
        choices=SIDES,
        default="validation",
        help="side whose responses the curve is fitted to: validation, held out, is the default; "
        "the side that is judged gives no correlation with length there",
    )
    found.add_argument(
        "--share",
        type=float,
        default=SHARE,
        help="of the responses in each local fit; default: %(default)s",
    )
    return found


def calibrate(
    directory: Path, out: Path, config: DataSettings, side: evaluation.Side, share: float
) -> None:
    """Write ``out``: the files of ``directory`` and a ``reward.json`` with a length curve."""
    if checkpoint.is_complete(out):
        raise SettingsError(f"{out} is a complete checkpoint; choose another --out")
    manifest, revision = checkpoint.read(directory)
    pairs = choose(config, side)
    measured = scores_of(directory, manifest, pairs)
    names = ", ".join(dict.fromkeys(pair.source for pair in pairs))
    found = stats(measured, f"{side} side of {names}", pairs)
    calibration = length_calibration(measured, pairs, found, share)
    out.mkdir(parents=True, exist_ok=True)
    for path in checkpoint.files(directory):
        copy = out / path.relative_to(directory)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
    calibrated = {"of": str(directory), "revision": revision, "share": share}
    checkpoint.write(
        out,
        msgspec.structs.replace(
            manifest,
            calibration=calibration,
            training=manifest.training | {"calibrated": calibrated},
        ),
    )
    say("scores", measured, pairs)
    say("rewards", rewards(measured, calibration, pairs), pairs)


def choose(config: DataSettings, side: evaluation.Side) -> list[Pair]:
    """The pairs of every source on one side. A benchmark has no held-out side: its own responses
    would be seen, so that must be asked for."""
    loaded = sources.load_all(config.sources, sys.stderr)
    benchmarks = [one.source.name for one in loaded if one.source.is_benchmark]
    if benchmarks and side != "all":
        raise SettingsError(
            f"{', '.join(benchmarks)}: a benchmark has no {side} side; leave it out, or fit the "
            "curve to the very responses that are judged: --split all"
        )
    return [
        pair for some in evaluation.choose(loaded, config.split, side).values() for pair in some
    ]


def scores_of(directory: Path, manifest: Manifest, pairs: Sequence[Pair]) -> Measured:
    model = RewardModel.load(directory, dtype=measuring_dtype())
    encoded, _ = encode(pairs, model.encoder, manifest.truncation_side)
    return score_pairs(model, encoded)


def say(what: str, measured: Measured, pairs: Sequence[Pair]) -> None:
    correlation = length_correlation(measured, pairs)
    shown = "undefined" if correlation is None else f"{correlation:+.3f}"
    right = accuracy(measured.chosen - measured.rejected)
    print(f"{what:8} correlation with length {shown}, accuracy {right:.3f} ({len(pairs)} pairs)")
