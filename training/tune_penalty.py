"""``plaudit tune-penalty``: how much an ensemble takes off for disagreement, chosen by gold.

Half of the prompts of a file of graded lists picks the coefficient of ``uwo`` (λ, arXiv:2310.02743)
or ``lcb`` (k): the one by which best-of-n gains most gold. The other half says what that is worth.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from msgspec.structs import replace

from plaudit import ensemble, joint_file
from plaudit.checkpoint import CheckpointError
from plaudit.ensemble import EnsembleFile
from plaudit.wire import ItemError
from training.data.jsonlines import DataError
from training.data.sources import Source, load
from training.data.splits import halves
from training.evaluate import candidates, evaluation, penalty
from training.evaluate.accuracy import Array
from training.evaluate.candidates import Candidates
from training.evaluate.gold import GoldList, gold_lists
from training.evaluate.penalty import GRID, JudgedList, Row
from training.precision import measuring_dtype
from training.score import checkpoints
from training.score.outcome import Asked
from training.settings import SettingsError


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    check(options)
    found = read(options.members)
    lists = graded(options.gold)
    dtype = measuring_dtype(options.dtype)
    judged = score(found, lists, dtype)
    tuning, reported = halves(judged, lambda one: one.prompt, salt="penalty")
    tuned = penalty.tune(tuning, options.aggregate, options.grid, options.n)
    best = next(iter(tuned))
    rows = penalty.report(reported, options.aggregate, best, options.n)
    print(f"best of {options.n}: {len(tuning)} lists pick, {len(reported)} others are reported")
    show(options.aggregate, tuned, rows)
    if options.write:
        write(options.members[0], options.aggregate, best)
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="plaudit tune-penalty", description=__doc__)
    found.add_argument(
        "members",
        nargs="+",
        type=Path,
        metavar="FILE|CHECKPOINT",
        help="an ensemble file, or two checkpoints or more",
    )
    found.add_argument(
        "--gold",
        type=Path,
        required=True,
        help="lists whose responses have a win_probability each, as AlpacaEval's",
    )
    found.add_argument(
        "--aggregate",
        choices=get_args(penalty.Penalised),
        default="uwo",
        help="uwo: mean - λ variance; lcb: mean - k std; default: %(default)s",
    )
    found.add_argument(
        "--n", type=int, default=16, help="draws that one is picked from; default: %(default)s"
    )
    found.add_argument(
        "--grid",
        nargs="+",
        type=float,
        default=GRID,
        metavar="COEFFICIENT",
        help=f"to choose from; default: {' '.join(f'{one:g}' for one in GRID)}",
    )
    found.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the body; auto: bfloat16 where the hardware multiplies in it",
    )
    found.add_argument(
        "--write",
        action="store_true",
        help="write aggregate and coefficient into the ensemble file; its comments are lost",
    )
    return found


def check(options: argparse.Namespace) -> None:
    if options.n < 2:
        raise SettingsError(f"--n {options.n}: one draw leaves nothing to pick; give at least 2")
    odd = [one for one in options.grid if not (math.isfinite(one) and one >= 0)]
    if odd:
        raise SettingsError(f"--grid {odd[0]:g}: a coefficient is a finite number from 0")
    if options.write and not options.members[0].is_file():
        raise SettingsError("--write needs an ensemble file to write into; name it")


def read(paths: Sequence[Path]) -> Candidates:
    """The members; CheckpointError if they cannot disagree, or not on one scale."""
    files = [path for path in paths if path.is_file()]
    if files and len(paths) > 1:
        raise SettingsError(f"{files[0]} names its members; give it alone, or checkpoints alone")
    found = candidates.read(paths)
    if found.bundles:
        raise CheckpointError(
            f"{paths[0]}: a file of objectives, whose members differ by what they judge; "
            "name an ensemble file"
        )
    bare = [n for n, c in found.checkpoints.items() if c.manifest.calibration.kind == "none"]
    if bare:
        raise CheckpointError(
            f"{', '.join(bare)} not calibrated, so members' disagreement would be one of scales; "
            "make full checkpoints of them first"
        )
    if len(set(members_of(found))) < 2:
        raise CheckpointError(
            f"{paths[0]}: one member has no variance to take off; name two or more"
        )
    return found


def members_of(found: Candidates) -> Sequence[str]:
    """Of the ensemble file, one of which may be its centre too; or all checkpoints named."""
    return found.ensembles[0].members if found.ensembles else [*found.checkpoints]


def graded(path: Path) -> list[GoldList]:
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    loaded = load(Source(name=name, path=path, shape="win_probabilities"))
    print(loaded.report(), file=sys.stderr, flush=True)
    lists = gold_lists(loaded)
    if not lists:
        raise DataError(
            f"{path}: no prompt has two responses with gold, besides the reference that they were "
            "compared with: there is nothing to choose between"
        )
    return lists


def score(found: Candidates, lists: Sequence[GoldList], dtype: str) -> list[JudgedList]:
    """Members' rewards of every response, cut at each checkpoint's side where it is too long.

    A response that some member cannot read is left out. DataError if a half of the prompts is
    empty.
    """
    asked: list[Asked] = [(one.prompt, text) for one in lists for text in one.responses]
    encoded = {
        key: [checkpoints.encode(encoder, one, key[-1]) for one in asked]
        for key, encoder in evaluation.encoders(found).items()
    }
    raw = checkpoints.score_all(found, encoded, dtype)
    made = [dict(zip(raw, row, strict=True)) for row in zip(*raw.values(), strict=True)]
    odd = [one for row in made for one in row.values() if isinstance(one, ItemError)]
    if any(one.type == "non-finite" for one in odd):
        raise evaluation.EvaluationError("a score is not finite; try --dtype float32")
    columns = checkpoints.member_rewards(found, made, [text for _, text in asked])
    rewards = np.stack([columns[name] for name in members_of(found)], axis=1)
    centre = found.ensembles[0].centre if found.ensembles else None
    return judged_lists(lists, rewards, None if centre is None else columns[centre])


def judged_lists(
    lists: Sequence[GoldList], rewards: Array, centre: Array | None
) -> list[JudgedList]:
    """Of rewards (N, M) of all responses in order, NaN where one could not be read, and the
    centre's (N,)."""
    columns = rewards if centre is None else np.column_stack([rewards, centre])
    scored: Array = ~np.isnan(columns.sum(axis=1))
    gold = np.concatenate([one.gold for one in lists])
    ends = np.cumsum([len(one.responses) for one in lists])
    found = [
        JudgedList(one.first_turn, rewards[own], gold[own], None if centre is None else centre[own])
        for one, places in zip(lists, np.split(np.arange(len(gold)), ends[:-1]), strict=True)
        for own in [places[scored[places]]]
        if len(own) > 1
    ]
    if len({one.prompt.strip() for one in found}) < 2:
        raise DataError(
            f"{len(found)} lists with two scored responses or more: too few prompts to tune with "
            "one half and report the other"
        )
    return found


def show(kind: penalty.Penalised, tuned: dict[float, float], rows: Sequence[Row]) -> None:
    print(f"gold by {kind}'s coefficient")
    for coefficient in sorted(tuned):
        mark = " picked" if coefficient == rows[1].coefficient else ""
        print(f"  {coefficient:<8g} {tuned[coefficient]:.4f}{mark}")
    print("gold of the others [95 % over prompts]")
    for row in rows:
        name = f"{row.aggregate} {row.coefficient:g}" if row.aggregate == kind else row.aggregate
        more = "" if row.aggregate == "mean" else f"  less mean {row.more:+.4f}"
        print(f"  {name:<8} {row.gold:.4f}{more}")
    if rows[1].more.low <= 0:
        print("not shown to gain gold over the mean")


def write(path: Path, kind: penalty.Penalised, coefficient: float) -> None:
    """Into the ensemble file, whose other fields stay."""
    known = joint_file.read(path)
    assert isinstance(known, EnsembleFile)
    ensemble.write(path, replace(known, aggregate=kind, coefficient=coefficient))
    print(f"{path}: {kind}, {coefficient:g}")
