"""Supervised fine-tuning of a policy on chosen responses, by TRL, from where it was broken off."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, Trainer, set_seed
from trl import SFTConfig, SFTTrainer

from plaudit.reward_model import DTYPES
from training import backbone, fine_tuning, saved_tokenizer, saved_weights
from training.fine_tuning import FineTuning
from training.policy.candidates import Candidates
from training.policy.chat import Chat
from training.precision import trains_in_bf16
from training.train import last_state


def tune(model: str, rows: Sequence[Candidates], config: FineTuning, out: Path) -> None:
    """Tune ``model`` on every response of ``rows`` and write it to ``out``, whole or not at all.

    ``out`` is kept where it is there already. States to go on from stand beside it until then.
    """
    if is_done(out):
        return
    chat = Chat.load(model)
    policy = load(model, chat, config)
    set_seed(config.seed)
    complete(trainer_of(policy, rows, chat, config, states_of(out)), chat, config, out)


def states_of(out: Path) -> Path:
    """To go on from, until ``out`` is there."""
    return out.with_name(f"{out.name}-states")


def is_done(out: Path) -> bool:
    """Whether ``out`` is there, which is whole then. States that a killed run has left go."""
    if out.is_dir():
        shutil.rmtree(states_of(out), ignore_errors=True)
    return out.is_dir()


def complete(trainer: Trainer, chat: Chat, config: FineTuning, out: Path) -> None:
    """Train from the last state or from the start, write ``out``, and remove the states."""
    states = Path(trainer.args.output_dir)
    trainer.train(resume_from_checkpoint=last_state(states))
    save(trainer.model, chat, config, out)
    shutil.rmtree(states, ignore_errors=True)


def trainer_of(
    policy: PreTrainedModel,
    rows: Sequence[Candidates],
    chat: Chat,
    config: FineTuning,
    states: Path,
) -> SFTTrainer:
    return SFTTrainer(
        policy,
        args=SFTConfig(
            **fine_tuning.arguments(config, states, states.name),
            completion_only_loss=True,
            max_length=None,  # prompts and responses have limits of their own
        ),
        train_dataset=Dataset.from_list(examples(rows, chat)),
        processing_class=chat.tokenizer,
    )


def load(model: str, chat: Chat, config: FineTuning) -> PreTrainedModel:
    """Ready to train, what is frozen in bf16 where the training computes and saves in it."""
    policy = fine_tuning.load(config, model, chat.tokenizer.pad_token_id)
    in_bf16 = trains_in_bf16(config.precision) and config.save_dtype == "bfloat16"
    if config.train_layers is not None and in_bf16:
        backbone.hold_frozen_in_bf16(policy)
    return policy


def examples(rows: Sequence[Candidates], chat: Chat) -> list[dict[str, Any]]:
    """Token ids as the policy samples them, and which of them are the response."""
    found = []
    for one in rows:
        prompt = chat.prompt(one.prompt)
        for response, finished in one.ended():
            own = chat.response(one.prompt, response, finished)
            mask = [0] * len(prompt) + [1] * len(own)
            found.append({"input_ids": [*prompt, *own], "completion_mask": mask})
    return found


def save(policy: PreTrainedModel, chat: Chat, config: FineTuning, out: Path) -> None:
    """The directory of a policy with its tokenizer, under its name once it is whole."""
    pending = out.with_name(f".{out.name}.pending")
    shutil.rmtree(pending, ignore_errors=True)
    saved_weights.save(policy.to(DTYPES[config.save_dtype]), pending)
    saved_tokenizer.save(chat.tokenizer, pending)
    pending.rename(out)
