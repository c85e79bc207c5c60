"""``plaudit strength``: preference strength by models that never saw the pair (arXiv:2401.06080).

The train side's prompts are cut into folds. For each fold M members are trained on the others and
score it. With members that saw a pair, strength is mostly memory of its label: such use is refused.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from plaudit import checkpoint
from plaudit.conversation import Encoder
from plaudit.reward_model import RewardModel
from training import ensemble, settings
from training.data.encoding import encode
from training.data.jsonlines import write_rows
from training.data.shapes import Pair
from training.data.splits import Fold, Split
from training.evaluate.evaluation import SIDES, Side, choose
from training.measure import Array, score_pairs
from training.noise.strength import FOLD, MEAN, STD, Strength
from training.precision import measuring_dtype
from training.settings import DataSettings, EnsemblePlan, SettingsError, TrainSettings
from training.train import describe, read, train_region

FILE = "strength.jsonl"


class StrengthPlan(EnsemblePlan):
    """An ensemble's plan and the number of folds; ``out`` holds an ensemble for each."""

    folds: int = Field(5, ge=2, description="parts of the train side, by prompt")

    def fold(self, held_out: int) -> EnsemblePlan:
        """The ensemble that does not see one fold."""
        fold = Fold(count=self.folds, held_out=held_out)
        split = self.split.model_copy(update={"fold": fold})
        values = self.model_dump(exclude={"folds"})
        return EnsemblePlan(**values | {"split": split, "out": self.out / f"fold-{held_out}"})


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="plaudit strength",
        description=__doc__,
        epilog="\n".join(describe(StrengthPlan)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plan", type=Path, help="YAML file: settings of train, members, folds")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    parser.add_argument(
        "--members",
        nargs="+",
        type=Path,
        metavar="CHECKPOINT",
        help="do not train: these score the sources of PLAN (of which only sources and split are "
        "read); refused if they were trained on any of the pairs",
    )
    parser.add_argument("--side", choices=SIDES, default="train", help="with --members")
    parser.add_argument("--out", type=Path, help="with --members: the file to write")
    options = parser.parse_args(argv)
    if options.members is None:
        cross_fit(settings.load(StrengthPlan, options.plan, options.overrides))
    elif options.out is None:
        raise SettingsError("--members needs --out FILE")
    else:
        data = settings.load(DataSettings, options.plan, options.overrides)
        measure(options.members, data, options.side, options.out)
    return 0


def cross_fit(plan: StrengthPlan) -> Path:
    """Train what is missing, score each fold by those that did not see it, write one file."""
    rows: list[dict[str, Any]] = []
    for fold in range(plan.folds):
        held_out = plan.fold(fold)
        print(f"fold {fold + 1} of {plan.folds}", flush=True)
        ensemble.run(held_out)
        members = [held_out.member(index) for index in range(len(held_out.members))]
        pairs = held_out_pairs(members[0])
        rows += rows_of(pairs, strength_of([member.out for member in members], pairs), fold)
    path = plan.out / FILE
    write_rows(path, rows)
    print(f"{path}: {len(rows)} pairs, {sum(row[MEAN] < 0 for row in rows)} below zero")
    return path


def held_out_pairs(member: TrainSettings) -> list[Pair]:
    """What the member would have been trained on without its fold."""
    region = train_region(member, read(member), Encoder.load(member.out, member.max_tokens))
    return [pair.pair for pair in region if member.split.side(pair.pair) == "held_out"]


def measure(members: Sequence[Path], data: DataSettings, side: Side, out: Path) -> None:
    """Strength of pairs that no member was trained on, by members that are there."""
    chosen = choose(read(data), data.split, side)
    pairs = [pair for some in chosen.values() for pair in some]
    write_rows(out, rows_of(pairs, strength_of(members, pairs), None))
    print(f"{out}: {len(pairs)} pairs")


def strength_of(members: Sequence[Path], pairs: Sequence[Pair]) -> Strength:
    """By members that were trained on none of the pairs."""
    for member in members:
        refuse_in_sample(member, pairs)
    return Strength.of(np.stack([margins(member, pairs) for member in members]))


def margins(member: Path, pairs: Sequence[Pair]) -> Array:
    """Raw margins (P,) of one member, as a loss would see them; too long pairs are cut."""
    model = RewardModel.load(member, dtype=measuring_dtype())
    encoded, _ = encode(pairs, model.encoder, model.manifest.truncation_side)
    measured = score_pairs(model, encoded)
    return measured.chosen.astype(np.float64) - measured.rejected


def rows_of(
    pairs: Sequence[Pair], strength: Strength, fold: int | None
) -> Iterator[dict[str, Any]]:
    """Rows of shape ``plaudit``, with the other columns that the pairs came with."""
    for pair, mean, std in zip(pairs, strength.mean, strength.std, strict=True):
        row = {
            **pair.rest,
            "prompt": list(pair.prompt),
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "source": pair.source,
            "category": pair.category,
            "target_margin": pair.target_margin,
            "soft_label": pair.soft_label,
            MEAN: float(mean),
            STD: float(std),
        }
        yield row if fold is None else row | {FOLD: fold}


def refuse_in_sample(member: Path, pairs: Sequence[Pair]) -> None:
    """Refuse a member that was trained on any of the pairs' prompts, or whose base was."""
    for name, split in trained_on(member):
        seen = sum(split.side(pair) == "train" for pair in pairs)
        if seen:
            raise SettingsError(
                f"{member}: {name} was trained on the prompts of {seen} of {len(pairs)} pairs; "
                "what it finds of them is memory. Let plaudit strength PLAN train members on "
                "other folds, from a base that saw none, into an empty out=DIR"
            )


def trained_on(directory: Path) -> Iterator[tuple[Path, Split]]:
    """The splits whose train side a checkpoint has seen: its own, its base's, its members'."""
    manifest, _ = checkpoint.read(directory)
    recorded = manifest.training.get("settings")
    if recorded is not None:
        yield directory, settings.parse(TrainSettings, recorded, f"{directory}: settings").split
    for member in manifest.members:
        if not checkpoint.is_complete(Path(member.path)):
            raise SettingsError(
                f"{directory}: its member {member.path} is not there to say what it was trained "
                "on; run the command where it was averaged"
            )
        yield from trained_on(Path(member.path))
    if checkpoint.is_complete(Path(manifest.base.id)):
        yield from trained_on(Path(manifest.base.id))
