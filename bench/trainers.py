"""Training beside TRL's RewardTrainer: pairs per second, and whether the losses agree.

    pip install -e '.[training]'
    python bench/trainers.py [--model models/smollm2-135m] [--data ../shared/data] [--steps 8]

Both get the same backbone and head, the same pairs in the same order, AdamW with the same schedule,
and bf16 autocast where the hardware multiplies in it; TRL also runs in the random order that is its
default. Nothing is saved. The first to run changes with each round; figures are medians of the
steps after the first.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Dataset
from transformers import ProgressCallback, TrainerCallback
from trl import RewardConfig, RewardTrainer

from plaudit.conversation import Encoder
from training import backbone
from training.data.batches import PairCollator, dataset
from training.data.encoding import EncodedPair
from training.data.prompt_sampler import PromptSampler
from training.data.sources import Source
from training.settings import TrainSettings
from training.trainer import PairTrainer, Scorer, arguments
from training.training_data import read, train_region

Losses = list[float]
# The first step of a process pays for what is loaded lazily.
WARM_UP = 1
# Settings that TRL takes from ours.
SAME = (
    "output_dir",
    "num_train_epochs",
    "learning_rate",
    "per_device_train_batch_size",
    "warmup_steps",
    "lr_scheduler_type",
    "weight_decay",
    "max_grad_norm",
    "seed",
    "bf16",
    "use_cpu",
    "dataloader_pin_memory",
    "logging_steps",
)


class Clock(TrainerCallback):
    """Seconds of the steps after the first."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def on_step_end(self, args, state, control, **kwargs) -> None:  # type: ignore[no-untyped-def]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if state.global_step == WARM_UP:
            self._began = time.perf_counter()
        self.seconds = time.perf_counter() - self._began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-pairs", type=int, default=8)
    parser.add_argument("--layers", type=int, help="top blocks that train; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.steps <= WARM_UP:
        parser.error(f"--steps: more than {WARM_UP}, the first is not timed")
    for name, file in (("HH", "hh_helpful"), ("RMB", "rmb_pairs")):
        config = TrainSettings(
            model=str(options.model),
            out=Path(tempfile.gettempdir()) / "nothing-is-saved-here",
            sources=[Source(name=name, path=options.data / f"{file}.jsonl.gz")],
            batch_pairs=options.batch_pairs,
            train_layers=options.layers,
            lr=1e-4,
            logging_steps=1,
            log_to=[],
        )
        compare(name, config, options.steps, options.repeats)


def compare(name: str, config: TrainSettings, steps: int, repeats: int) -> None:
    pairs = some_pairs(config, steps * config.batch_pairs)
    contestants: dict[str, Callable[[], tuple[Losses, float]]] = {
        "plaudit": lambda: plaudit(config, pairs),
        "TRL": lambda: trl(config, pairs, "sequential"),
        "TRL, random order": lambda: trl(config, pairs, "random"),
    }
    names, rounds = list(contestants), []
    for number in range(repeats):
        first = number % len(names)
        rounds.append({who: contestants[who]() for who in names[first:] + names[:first]})
    seconds = {who: statistics.median(one[who][1] for one in rounds) for who in contestants}
    timed = (steps - WARM_UP) * config.batch_pairs
    for who, taken in seconds.items():
        print(f"{name} {who:18} {timed / taken:6.2f} pairs/s {taken / seconds['plaudit']:5.2f}x")
    ours, theirs = rounds[0]["plaudit"][0], rounds[0]["TRL"][0]
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    print(f"{name} loss {ours[0]:.4f} to {ours[-1]:.4f}; largest difference of a step {apart:.4f}")


def some_pairs(config: TrainSettings, count: int) -> list[EncodedPair]:
    """The first pairs of an epoch in the order that Plaudit trains them in."""
    tokenizer = backbone.load_tokenizer(config)
    encoder = Encoder(tokenizer, len(tokenizer), config.max_tokens)
    region = train_region(config, read(config), encoder)
    order = PromptSampler([pair.pair.first_turn for pair in region], config.seed)
    return [region[place] for place, _ in zip(order, range(count), strict=False)]


def plaudit(config: TrainSettings, pairs: list[EncodedPair]) -> tuple[Losses, float]:
    model, clock = load(config), Clock()
    trainer = InOrder(
        config,
        model=Scorer(model),
        args=replace(arguments(config), save_strategy="no"),
        train_dataset=dataset(pairs),
        data_collator=PairCollator(model),
        callbacks=[clock],
    )
    return run(trainer, clock)


class InOrder(PairTrainer):
    """The pairs come as they are to be trained."""

    def _get_train_sampler(self, train_dataset=None):  # type: ignore[no-untyped-def]
        return range(len(self.train_dataset))


def trl(config: TrainSettings, pairs: list[EncodedPair], order: str) -> tuple[Losses, float]:
    ours, clock = arguments(config), Clock()
    trainer = RewardTrainer(
        model=load(config),
        args=RewardConfig(
            **{name: getattr(ours, name) for name in SAME},
            train_sampling_strategy=order,
            gradient_checkpointing=False,
            max_length=None,
            save_strategy="no",
            report_to=[],
        ),
        train_dataset=Dataset.from_dict(
            {
                "chosen_ids": [pair.chosen for pair in pairs],
                "rejected_ids": [pair.rejected for pair in pairs],
            }
        ),
        processing_class=backbone.load_tokenizer(config),
        callbacks=[clock],
    )
    return run(trainer, clock)


def load(config: TrainSettings):  # type: ignore[no-untyped-def]
    model = backbone.load_backbone(config, backbone.load_tokenizer(config))
    if config.train_layers is not None:
        backbone.hold_frozen_in_bf16(model)
    return model


def run(trainer, clock: Clock) -> tuple[Losses, float]:  # type: ignore[no-untyped-def]
    trainer.remove_callback(ProgressCallback)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], clock.seconds


if __name__ == "__main__":
    main()
