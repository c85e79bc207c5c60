"""``plaudit grpo``: a policy tuned on the rewards of a running service, by GRPO of TRL.

A killed run goes on where it stopped: give it the same settings again.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from datasets import Dataset
from pydantic import Field, model_validator
from transformers import set_seed
from trl import GRPOConfig

from plaudit.checkpoint import file_digest
from plaudit.integrations.source import client_of
from plaudit.integrations.trl import Reward
from plaudit.wire import ModelInfo
from training import settings
from training.data.splits import Name, Split
from training.policy import one_process, plan_file, prompts, tuning
from training.policy.chat import Chat
from training.policy.group_trainer import GroupTrainer
from training.policy.prompts import Prompt, PromptFile
from training.policy.rewards import Judge, as_it_is_now, check
from training.policy.rewards_ahead import WAIT_SHARE, RewardFunction
from training.policy.tuning import Curves, Tuning
from training.score.served import KEY, named
from training.settings import SettingsError
from training.train import end_together

SHOWN = {
    "reward": "reward",
    "kl": "KL to the first policy",
    "completions/mean_length": "tokens of a response",
    WAIT_SHARE: "share of a step spent waiting",
}


class GrpoSettings(Tuning):
    """Everything that ``plaudit grpo`` can be told."""

    prompts: PromptFile = Field(description="what the policy answers")
    split: Split = Field(Split(), description="which prompts stand on which side")
    side: Name | None = Field("train", description="of the prompts; null: all")
    service: Judge = Field(description="who rewards; an ensemble's penalty stands here too")
    responses: int = Field(8, ge=2, description="to each prompt, which are held to their mean")
    max_new_tokens: int = Field(256, ge=1, description="a response that is longer is cut there")
    temperature: float = Field(1.0, gt=0, description="of the sampled responses")
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

    @model_validator(mode="after")
    def _states_between_batches(self) -> "GrpoSettings":
        # TRL counts the updates of a batch from 0 in a process that resumes, wherever they were.
        if self.save_steps % self.updates:
            nearest = max(1, round(self.save_steps / self.updates)) * self.updates
            raise ValueError(
                f"a state inside the {self.updates} updates of a batch could not be gone on from: "
                f"save_steps={nearest} in the place of {self.save_steps}"
            )
        return self


Settings = TypeVar("Settings", bound=GrpoSettings)
Make = Callable[[Settings, Chat, Sequence[Prompt], RewardFunction], GroupTrainer]


def main(argv: Sequence[str]) -> int:
    grpo(settings.of_command(GrpoSettings, "plaudit grpo", __doc__, argv))
    end_together()
    return 0


def grpo(config: GrpoSettings) -> None:
    """Tune, and write ``OUT/policy``."""
    on_rewards(config, trainer_of)


def on_rewards(config: Settings, make: Make[Settings]) -> None:
    """Tune by the trainer that ``make`` makes. The run is pinned to the judge that it began with:
    its revision, and an ensemble's aggregate and coefficient."""
    chat = Chat.load(config.model)
    asked = to_answer(config, chat)
    judge = named(config.service.url, config.service.model)
    check(config.service, judge)
    service = as_it_is_now(config.service, judge)
    digest = file_digest(config.prompts.path)
    tuning.begin(config, {"prompts": digest, plan_file.JUDGE: says(service, judge)})
    reward = reward_of(service, judge)
    try:
        tuning.run(config, make(config, chat, asked, reward), chat)
    finally:
        client_of(reward.source).close()


def trainer_of(
    config: GrpoSettings, chat: Chat, asked: Sequence[Prompt], reward: RewardFunction
) -> GroupTrainer:
    """TRL's trainer before its first step."""
    policy = tuning.load(config, chat)
    set_seed(config.seed)  # TRL draws the adapters before it does
    return GroupTrainer(
        reward,
        config.parts,
        model=policy,
        args=GRPOConfig(**arguments(config)),
        train_dataset=dataset(asked),
        processing_class=chat.tokenizer,
        peft_config=tuning.adapters(config),
        callbacks=[Curves(config.out, SHOWN)],
    )


def reward_of(service: Judge, judge: ModelInfo) -> Reward:
    """Of one revision of the judge; another one that answers in its place ends the run."""
    asked: dict[str, Any] = {"model": judge.name}
    if judge.kind == "ensemble":
        penalty = {"aggregate": service.aggregate, "coefficient": service.coefficient}
        asked = {"ensemble": judge.name, **penalty}
    return Reward(
        service.url,
        **asked | {"api_key": os.environ.get(KEY)},
        revision=judge.revision,
        truncation=service.truncation,
        timeout_seconds=service.timeout_seconds,
    )


def says(service: Judge, judge: ModelInfo) -> str:
    """What of the judge a run goes on with: its revision, and how an ensemble's rewards are made
    one, which is not in it."""
    if service.aggregate is None:
        return judge.revision
    return f"{judge.revision}, {service.aggregate}, coefficient {service.coefficient}"


def to_answer(config: GrpoSettings, chat: Chat) -> list[Prompt]:
    """SettingsError where they do not fill a step: TRL leaves out what is over whole ones."""
    every = prompts.on_side(prompts.load(config.prompts.path), config.split, config.side)
    found = prompts.choose(every, config.prompts, lambda one: len(chat.prompt(one.turns)))
    responses = config.batch_responses * config.accumulation * one_process.count()
    in_step = responses // config.responses
    if len(found) < in_step:
        raise SettingsError(
            f"{len(found)} prompts do not fill a step, which takes {in_step} with {responses} "
            f"responses, {config.responses} to each: lower batch_responses or accumulation"
        )
    if over := len(found) % in_step:
        said = f"{over} prompts over whole steps of {in_step}: each epoch leaves out other ones"
        print(said, file=sys.stderr)
    return found


def dataset(asked: Sequence[Prompt]) -> Dataset:
    return Dataset.from_list([{"prompt": [dict(turn) for turn in one.turns]} for one in asked])


def arguments(config: GrpoSettings) -> dict[str, Any]:
    """What TRL's GRPOConfig is told."""
    return {
        **tuning.arguments(config),
        "num_generations": config.responses,
        "max_completion_length": config.max_new_tokens,
        "temperature": config.temperature,
        "beta": config.beta,
        "epsilon": config.clip,
        "num_iterations": config.updates,
        "loss_type": "dapo",
        "disable_dropout": True,
    }
