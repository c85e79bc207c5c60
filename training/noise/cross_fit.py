"""``plaudit strength``: preference strength by models that never saw the pair (arXiv:2401.06080).

The train side's prompts are cut into folds. For each fold M members are trained on the others and
score it.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from plaudit.conversation import Encoder
from plaudit.reward_model import RewardModel
from training import backbone, ensemble, settings
from training.data.encoding import encode
from training.data.jsonlines import DataError, Row, check_name, write_rows
from training.data.shapes import Pair, finished_columns
from training.data.sources import Loaded
from training.data.splits import Fold
from training.evaluate.evaluation import SIDES, Side, choose
from training.in_sample import refuse_base, refuse_member
from training.measure import Array, score_pairs
from training.noise.strength import FOLD, MEAN, STD, Strength
from training.precision import measuring_dtype
from training.settings import DataSettings, EnsemblePlan, SettingsError, TrainSettings
from training.training_data import read, train_region

FILE = "strength.jsonl"
# Columns that are written, and that a file may therefore not have for something else.
OURS = ("prompt", "chosen", "rejected", "category", "target_margin", "soft_label", MEAN, STD, FOLD)


class StrengthPlan(EnsemblePlan):
    """An ensemble's plan and the number of folds; ``out`` holds an ensemble for each."""

    folds: int = Field(5, ge=2, description="parts of the train side, by prompt")

    @model_validator(mode="after")
    def _cuts_the_folds_itself(self) -> "StrengthPlan":
        if self.split.fold is not None:
            raise ValueError("split.fold is set for each fold in turn; leave it out")
        return self

    @model_validator(mode="after")
    def _heads_are_of_their_folds(self) -> "StrengthPlan":
        if self.head is not None:
            raise ValueError(
                "head is one for all folds, and has seen the labels of what each holds out: say "
                "probe, and each fold fits its own"
            )
        return self

    def without(self, held_out: int) -> EnsemblePlan:
        """The ensemble that does not see one fold."""
        fold = Fold(count=self.folds, held_out=held_out)
        values = {name: getattr(self, name) for name in EnsemblePlan.model_fields}
        split = self.split.model_copy(update={"fold": fold})
        return EnsemblePlan(**values | {"split": split, "out": self.out / f"fold-{held_out}"})


def main(argv: Sequence[str]) -> int:
    found = parser()
    options = found.parse_args(argv)
    if options.members is None:
        if options.out is not None or options.side is not None:
            found.error("--side and --out go with --members; the plan says out: DIR")
        cross_fit(settings.load_to_run(StrengthPlan, options.plan, options.overrides))
        return 0
    if options.out is None:
        found.error("--members needs --out FILE")
    data = settings.load(DataSettings, options.plan, options.overrides)
    measure(options.members, data, options.side or "train", options.out)
    return 0


def parser() -> argparse.ArgumentParser:
    found = settings.parser_of(StrengthPlan, "plaudit strength", __doc__)
    found.add_argument(
        "plan",
        type=Path,
        help="YAML file: settings of train, members and folds; with --members: sources and split",
    )
    found.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    found.add_argument(
        "--members",
        nargs="+",
        type=Path,
        metavar="CHECKPOINT",
        help="train nothing: these score, and are refused if they were trained on any of the pairs",
    )
    found.add_argument("--side", choices=SIDES, help="with --members; default: train")
    found.add_argument("--out", type=Path, help="with --members: the file to write (.jsonl)")
    return found


def cross_fit(plan: StrengthPlan) -> Path:
    """Train what is missing, score each fold by those that did not see it, write one file."""
    check_before(plan)
    rows: list[Row] = []
    for fold in range(plan.folds):
        held_out = plan.without(fold)
        print(f"fold {fold + 1} of {plan.folds}", flush=True)
        ensemble.run(held_out)
        members = [held_out.member(index) for index in range(len(held_out.members))]
        pairs = held_out_pairs(members[0])
        strength = strength_of([member.out for member in members], pairs)
        rows += (row | {FOLD: fold} for row in rows_of(pairs, strength))
    path = plan.out / FILE
    write_rows(path, rows)
    print(f"{path}: {len(rows)} pairs, {sum(row[MEAN] < 0 for row in rows)} below zero")
    return path


def check_before(plan: StrengthPlan) -> None:
    """What would be refused after hours of training is refused now."""
    check_name(plan.out / FILE, *files_of(plan))
    loaded = read(plan)
    refuse_benchmarks(loaded)
    pairs = [
        pair
        for one in loaded
        if one.source.side != "validation"
        for pair in one.pairs
        if plan.split.side(pair) == "train"
    ]
    check_columns(pairs)
    for start in dict.fromkeys(plan.starts):
        refuse_base(backbone.base(start), pairs)


def files_of(data: DataSettings) -> list[Path]:
    return [source.path for source in data.sources if source.path is not None]


def refuse_benchmarks(loaded: Sequence[Loaded]) -> None:
    """What is measured here is written as pairs to train on."""
    for one in loaded:
        if one.source.is_benchmark:
            raise DataError(f"{one.source.name}: a benchmark, which is never trained on; remove it")


def check_columns(pairs: Sequence[Pair]) -> None:
    """The other columns of each pair can be written beside ours."""
    for pair in pairs:
        clash = [name for name in OURS if name in pair.rest]
        if clash:
            raise DataError(
                f"{pair.source}: the file has a column {clash[0]!r} that strength writes; rename it"
            )
        try:
            json.dumps(dict(pair.rest))
        except TypeError as error:
            raise DataError(f"{pair.source}: a column that JSON cannot hold: {error}") from None


def held_out_pairs(member: TrainSettings) -> list[Pair]:
    """What the member would have been trained on without its fold; twins with a word limit, whose
    label is known, are not measured."""
    region = train_region(member, read(member), Encoder.load(member.out, member.max_tokens))
    pairs = [pair.pair for pair in region if pair.pair.word_limit is None]
    return [pair for pair in pairs if member.split.side(pair) == "held_out"]


def measure(members: Sequence[Path], data: DataSettings, side: Side, out: Path) -> None:
    """Strength of pairs that no member was trained on, by members that are there."""
    check_name(out, *files_of(data))
    loaded = read(data)
    refuse_benchmarks(loaded)
    chosen = choose(loaded, data.split, side)
    pairs = [pair for some in chosen.values() for pair in some]
    check_columns(pairs)
    write_rows(out, rows_of(pairs, strength_of(members, pairs)))
    print(f"{out}: {len(pairs)} pairs")


def strength_of(members: Sequence[Path], pairs: Sequence[Pair]) -> Strength:
    """By members that were trained on none of the pairs."""
    for member in members:
        refuse_member(member, pairs)
    return Strength.of(np.stack([margins(member, pairs) for member in members]))


def margins(member: Path, pairs: Sequence[Pair]) -> Array:
    """Raw margins (P,) of one member, as a loss would see them; too long pairs are cut."""
    model = RewardModel.load(member, dtype=measuring_dtype())
    encoded, _ = encode(pairs, model.encoder, model.manifest.truncation_side)
    measured = score_pairs(model, encoded)
    found = measured.chosen.astype(np.float64) - measured.rejected
    if not np.isfinite(found).all():
        bad = int((~np.isfinite(found)).sum())
        raise SettingsError(f"{member}: {bad} margins are not finite; remove it and train it again")
    return found


def rows_of(pairs: Sequence[Pair], strength: Strength) -> Iterator[Row]:
    """Rows of shape ``plaudit``, with the other columns that the pairs came with."""
    for pair, mean, std in zip(pairs, strength.mean, strength.std, strict=True):
        yield {
            "source": pair.source,
            **pair.rest,
            "prompt": list(pair.prompt),
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "category": pair.category,
            "target_margin": pair.target_margin,
            "soft_label": pair.soft_label,
            **finished_columns(*pair.finished),
            MEAN: float(mean),
            STD: float(std),
        }
