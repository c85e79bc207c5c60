"""``plaudit grpo``: a policy tuned on the rewards of a running service, by GRPO of TRL."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from pydantic import Field, model_validator
from trl import GRPOConfig

from plaudit.checkpoint import file_digest
from training import settings
from training.data.splits import Name, Split
from training.policy import prompts, tuning
from training.policy.chat import Chat
from training.policy.group_trainer import GroupTrainer
from training.policy.prompts import Prompt, PromptFile
from training.policy.rewards import Service
from training.policy.rewards_ahead import RewardFunction
from training.policy.tuning import Curves, Tuning

SHOWN = {
    "reward": "reward",
    "kl": "KL to the first policy",
    "completions/mean_length": "tokens of a response",
    "reward_wait/share": "share of a step spent waiting",
}


class GrpoSettings(Tuning):
    """Everything that ``plaudit grpo`` can be told."""

    prompts: PromptFile = Field(description="what the policy answers")
    split: Split = Split()
    side: Name | None = Field("train", description="of the prompts; null: all")
    service: Service = Field(description="who rewards; an ensemble's penalty stands here too")
    responses: int = Field(8, ge=2, description="to each prompt, which are held to their mean")
    max_new_tokens: int = Field(256, ge=1, description="a response that is longer is cut there")
    temperature: float = Field(1.0, gt=0)
    beta: float = Field(0.04, ge=0, description="of the KL to the first policy; 0: no second model")
    clip: float = Field(0.2, gt=0, lt=1, description="how far a probability ratio counts from 1")
    updates: int = Field(1, ge=1, description="optimiser steps on each batch of responses")
    parts: int = Field(2, ge=1, description="of a batch; rewards of one, while the next is made")

    @model_validator(mode="after")
    def _whole_groups(self) -> "GrpoSettings":
        if self.batch_responses * self.accumulation % self.responses:
            raise ValueError(
                f"a step's {self.batch_responses} · {self.accumulation} responses are to be whole "
                f"groups of {self.responses}: change batch_responses, accumulation or responses"
            )
        return self


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="plaudit grpo",
        description=__doc__,
        epilog="\n".join(settings.describe(GrpoSettings)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", type=Path, help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    parser.add_argument("--resume", action="store_true", help="go on from the last saved state")
    options = parser.parse_args(argv)
    grpo(settings.load(GrpoSettings, options.settings, options.overrides), options.resume)
    return 0


def grpo(config: GrpoSettings, resume: bool = False) -> None:
    """Tune, and save ``OUT``."""
    chat = Chat.load(config.model)
    asked = to_answer(config, chat)
    data = {str(config.prompts.path): file_digest(config.prompts.path)}
    last = tuning.begin(config, data, resume)
    trainer = GroupTrainer(
        reward_function(config.service),
        config.parts,
        model=tuning.load_policy(config, chat.tokenizer),
        args=GRPOConfig(**arguments(config, chat)),
        train_dataset=dataset(asked),
        processing_class=chat.tokenizer,
        peft_config=tuning.adapters(config),
        callbacks=[Curves(config.out, SHOWN)],
    )
    tuning.train(config, trainer, chat, data, last)


def reward_function(service: Service) -> RewardFunction:
    raise NotImplementedError


def to_answer(config: GrpoSettings, chat: Chat) -> list[Prompt]:
    every = prompts.on_side(prompts.load(config.prompts.path), config.split, config.side)
    return prompts.choose(every, config.prompts, lambda one: len(chat.prompt(one.turns)))


def dataset(asked: Sequence[Prompt]) -> Dataset:
    return Dataset.from_list([{"prompt": [dict(turn) for turn in one.turns]} for one in asked])


def arguments(config: GrpoSettings, chat: Chat) -> dict[str, Any]:
    """What TRL's GRPOConfig is told."""
    return {
        **tuning.arguments(config),
        "num_generations": config.responses,
        "max_completion_length": config.max_new_tokens,
        "temperature": config.temperature,
        "beta": config.beta,
        "epsilon": config.clip,
        "num_iterations": config.updates,
        "chat_template_kwargs": {},
        "disable_dropout": True,
    }
