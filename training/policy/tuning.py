"""What the tunings of a policy by TRL share: its model, its directory, its end.

A run that was broken off goes on where it stopped: give it the same settings again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig
from pydantic import Field
from transformers import PreTrainedModel, Trainer, TrainerCallback

from training import fine_tuning, shards
from training.fine_tuning import FineTuning
from training.method_settings import Lora
from training.policy import curves, plan_file, tune
from training.policy.chat import Chat
from training.settings import SettingsError
from training.train import last_state

# The tuned policy, in the directory of its run.
POLICY = "policy"
# What a run that is begun anew would take for its own.
STATES = ("trainer/checkpoint-*",)


class Tuning(FineTuning):
    """Settings of tuning a causal language model, whatever the loss."""

    model: str = Field(description="directory or hub id of the policy to begin with")
    out: Path = Field(description="directory of the run; the tuned policy is OUT/policy")
    lora: Lora | None = Field(None, description="train adapters instead of the weights")
    lr: float = Field(1e-6, gt=0, description="highest learning rate, after the warm-up")
    logging_steps: int = Field(1, ge=1, description="steps between lines of the log")

    @property
    def bases(self) -> list[str]:
        """Models that the run begins with."""
        return [self.model]


def begin(config: Tuning, data: Mapping[str, str]) -> None:
    """Say in ``OUT/plan.yaml`` which run the directory is of; ``data`` are the digests of what it
    reads, by name.

    Refuses a directory that holds the end of a run, or the beginning of another: settings, bases or
    data have changed.
    """
    if (config.out / POLICY).is_dir():
        raise SettingsError(f"{config.out / POLICY} is there already; choose another out=DIR")
    inputs = plan_file.digests(config.bases, []) | dict(data)
    plan_file.record(config, config.out, inputs, STATES)


def load(config: Tuning, chat: Chat) -> PreTrainedModel:
    """The policy with its trainable part chosen."""
    if config.lora is not None and config.train_layers is not None:
        raise SettingsError("lora trains adapters, train_layers the blocks themselves: keep one")
    return tune.load(config.model, chat, config)


def adapters(config: Tuning) -> LoraConfig | None:
    """What TRL puts on the policy; without them the policy is the reference."""
    if config.lora is None:
        return None
    return LoraConfig(
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=config.lora.target_modules,
        task_type="CAUSAL_LM",
    )


def arguments(config: Tuning) -> dict[str, Any]:
    """Of a TRL configuration, whatever the trainer."""
    return fine_tuning.arguments(config, config.out / "trainer", config.out.name)


def run(config: Tuning, trainer: Trainer, chat: Chat) -> None:
    """Train from the last state or from the start, and write ``OUT/policy``, whole or not."""
    shards.refuse(trainer)
    trainer.train(resume_from_checkpoint=last_state(config.out / "trainer"))
    if trainer.is_world_process_zero():
        save(config, trainer, chat)
        print(f"{config.out / POLICY}: tuned in {trainer.state.global_step} steps", flush=True)
    trainer.accelerator.wait_for_everyone()


def save(config: Tuning, trainer: Trainer, chat: Chat) -> None:
    """The weights whole, adapters merged into them."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if config.lora is not None:
        model = model.merge_and_unload()
    tune.save(model, chat, config, config.out / POLICY)


class Curves(TrainerCallback):
    """The logged figures as ``curves.json`` and ``curves.svg`` in the directory of the run."""

    def __init__(self, out: Path, shown: Mapping[str, str]):
        self._out, self._shown = out, shown

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            curves.write(self._out, state.log_history, self._shown)

    on_train_end = on_save
