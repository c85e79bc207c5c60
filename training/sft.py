"""``plaudit sft``: a causal language model tuned on the chosen responses of preference pairs.

The loss is that of the response alone. Several checkpoints of the run are kept, from which members
of one ensemble may start (Baklava, arXiv:2401.12187 section 4).
"""

import json
from collections.abc import Collection, Sequence
from copy import deepcopy
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import torch
from datasets import Dataset
from pydantic import Field
from transformers import PreTrainedModel, TrainerCallback, set_seed
from transformers import PreTrainedTokenizerBase as Tokenizer
from trl import SFTConfig, SFTTrainer

from plaudit.checkpoint import Base, sha256
from plaudit.conversation import Encoder
from plaudit.whole_file import write_whole
from training import (
    backbone,
    fine_tuning,
    lineage,
    saved_tokenizer,
    saved_weights,
    settings,
    shards,
)
from training.data.encoding import EncodedPair
from training.data.shapes import Pair
from training.data.sources import Loaded
from training.fine_tuning import FineTuning
from training.lineage import Lineage
from training.policy.chat import ends_of, own
from training.settings import DataSettings, SettingsError, TrainSettings
from training.shared_files import make_directory
from training.train import end_together, last_state
from training.training_data import read, train_region

# Settings that leave the weights of a step as they are.
WITHOUT_EFFECT = {"out", "save_at", "save_steps", "logging_steps", "log_to"}
# The digest of the run that a directory is of.
RUN_FILE = "run.txt"


Step = Annotated[int, Field(ge=1)]


class SftSettings(DataSettings, FineTuning):
    """Everything that ``plaudit sft`` can be told."""

    model: str = Field(description="directory or hub id of the causal language model")
    out: Path = Field(description="directory of the checkpoints, one step-N each")
    save_at: Step | Annotated[list[Step], Field(min_length=1)] = Field(
        3, description="steps to keep a checkpoint of, or how many, evenly to the end"
    )
    chat_template: Path | None = Field(None, description="Jinja file used instead of the model's")
    max_tokens: int = Field(512, ge=8, description="longer conversations are left out")

    def as_training(self) -> TrainSettings:
        """What training of a reward model would be told of the same names."""
        shared = self.model_fields.keys() & TrainSettings.model_fields.keys()
        return TrainSettings(**{name: getattr(self, name) for name in shared})

    def steps(self, max_steps: int) -> list[int]:
        """The steps to keep, of a run of so many."""
        if isinstance(self.save_at, int):
            return [max_steps * part // self.save_at for part in range(1, self.save_at + 1)]
        return sorted(self.save_at)


def main(argv: Sequence[str]) -> int:
    sft(*settings.of_training(SftSettings, "plaudit sft", __doc__, argv))
    end_together()
    return 0


def sft(config: SftSettings, resume: bool = False) -> None:
    """Tune, and save ``OUT/step-N`` for each step that is to be kept."""
    last = last_state(config.out / "trainer")
    if last and not resume:
        raise SettingsError(f"{config.out} holds a run; add --resume or choose out=DIR")
    like = config.as_training()
    tokenizer = backbone.load_tokenizer(like)
    model = fine_tuning.load(config, config.model, tokenizer.pad_token_id)
    loaded = read(config)
    pairs = train_pairs(like, loaded, Encoder(tokenizer, model.config.vocab_size, like.max_tokens))
    base = backbone.base(config.model)
    data = {one.source.name: one.digest for one in loaded}
    keep = Keep(config, tokenizer, base, data)
    set_seed(config.seed)
    trainer = SFTTrainer(
        model,
        args=arguments(config),
        train_dataset=examples(pairs, tokenizer, ends_of(config.model, tokenizer)),
        processing_class=tokenizer,
        callbacks=[keep],
    )
    shards.refuse(trainer)
    trainer.train(resume_from_checkpoint=last)


def train_pairs(
    config: TrainSettings, loaded: Sequence[Loaded], encoder: Encoder
) -> list[EncodedPair]:
    """Those that a reward model of the same data would be trained on."""
    region = train_region(config, loaded, encoder)
    pairs = [pair for pair in region if config.split.side(pair.pair) == "train"]
    if not pairs:
        raise SettingsError("no pair is left to train on; raise max_tokens or the train share")
    return pairs


def examples(pairs: Sequence[EncodedPair], tokenizer: Tokenizer, ends: Collection[int]) -> Dataset:
    """Token ids of each prompt with its chosen response, and which of them are the response; those
    that stand in several pairs once, as cut where one says so. What has nothing to teach is left
    out."""
    found: dict[tuple[Any, str], Pair] = {}
    for one in pairs:
        key = one.pair.turns, one.pair.chosen
        if key not in found or not one.pair.finished[0]:
            found[key] = one.pair
    rows = [example(pair, tokenizer, ends) for pair in found.values()]
    return Dataset.from_list([row for row in rows if any(row["completion_mask"])])


def example(pair: Pair, tokenizer: Tokenizer, ends: Collection[int]) -> dict[str, list[int]]:
    """The response begins where the conversation is no longer the prompt to be answered, and ends
    with the first token of ``ends``; one that was cut ends before it."""
    turns = [dict(turn) for turn in pair.prompt]
    answer = {"role": "assistant", "content": pair.chosen}
    asked = ids_of(turns, tokenizer, add_generation_prompt=True)
    ids = ids_of([*turns, answer], tokenizer)
    start = alike(asked, ids)
    learnt = own(ids[start:], pair.finished[0], ends, tokenizer)
    return {
        "input_ids": [*ids[:start], *learnt],
        "completion_mask": [0] * start + [1] * len(learnt),
    }


def alike(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids they have in common from the beginning."""
    both = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))


def ids_of(turns: list[dict[str, str]], tokenizer: Tokenizer, **how: bool) -> list[int]:
    text = tokenizer.apply_chat_template(turns, tokenize=False, **how)
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def arguments(config: SftSettings) -> SFTConfig:
    return SFTConfig(
        **fine_tuning.arguments(config, config.out / "trainer", config.out.name),
        completion_only_loss=True,
        max_length=None,  # what is longer was left out
    )


def run_digest(config: SftSettings, base: Base, data: dict[str, str]) -> str:
    """Of everything that decides the weights of a step."""
    decisive = config.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    return sha256(json.dumps([base.digest, decisive, data], sort_keys=True).encode())


def refuse_another(out: Path, run: str) -> None:
    """Refuse a directory with states or checkpoints of another run, or of one that is not named."""
    make_directory(out)
    path = out / RUN_FILE
    begun = [*out.glob("trainer/checkpoint-*"), *out.glob("step-*")]
    if begun and (not path.exists() or path.read_text() != run):
        raise SettingsError(
            f"{out} is of another run: base, settings or data have changed; choose another out=DIR "
            f"or remove {out}"
        )


class Keep(TrainerCallback):
    """Says which run the directory is of, and saves the checkpoints that members start from."""

    def __init__(self, config: SftSettings, tokenizer: Any, base: Base, data: dict[str, str]):
        self._config, self._tokenizer, self._base, self._data = config, tokenizer, base, data
        self._run = run_digest(config, base, data)
        refuse_another(config.out, self._run)
        self._steps: list[int] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._steps = self._config.steps(state.max_steps)
        if not 0 < self._steps[0] <= self._steps[-1] <= state.max_steps:
            raise SettingsError(
                f"save_at: the run has {state.max_steps} steps, {self._steps} are to be kept"
            )
        if state.is_world_process_zero:
            write_whole(self._config.out / RUN_FILE, self._run.encode())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        directory = self._config.out / f"step-{state.global_step}"
        kept = (directory / lineage.FILE).exists()
        if state.global_step in self._steps and state.is_world_process_zero and not kept:
            self._save(directory, kwargs["model"], state.global_step)

    def _save(self, directory: Path, model: PreTrainedModel, step: int) -> None:
        saved_weights.save(deepcopy(model).to(getattr(torch, self._config.save_dtype)), directory)
        saved_tokenizer.save(self._tokenizer, directory)
        recorded = self._config.model_dump(mode="json")
        weights = backbone.digest_of_base(str(directory))
        lineage.write(
            directory, Lineage(self._base, self._run, step, weights, recorded, self._data)
        )
        print(f"{directory}: a backbone to start members from", flush=True)
