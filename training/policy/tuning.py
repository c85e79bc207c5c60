"""What every tuning of a policy shares: its settings, its model, its directory, its end."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from pydantic import BaseModel, ConfigDict, Field
from transformers import AutoModelForCausalLM, PreTrainedModel, Trainer, TrainerCallback
from transformers import PreTrainedTokenizerBase as Tokenizer

from plaudit.checkpoint import sha256
from plaudit.whole_file import write_whole
from training import backbone
from training.method_settings import Lora
from training.policy import curves
from training.policy.chat import Chat
from training.precision import has_bf16
from training.settings import SettingsError
from training.train import last_state, refuse_shards

# Settings that leave the weights of a step as they are.
WITHOUT_EFFECT = {"out", "save_steps", "logging_steps", "log_to"}
# The digest of the run that a directory is of.
RUN_FILE = "run.txt"
# What a policy was tuned from and by; written last, so that its presence means complete.
POLICY_FILE = "policy.json"


class Tuning(BaseModel):
    """Settings of tuning a causal language model, whatever the loss."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="directory or hub id of the policy to begin with")
    out: Path = Field(description="directory of the tuned policy")
    train_layers: int | None = Field(None, ge=1, description="top blocks to train; null: all")
    lora: Lora | None = Field(None, description="train adapters instead of the weights")
    gradient_checkpointing: bool = Field(False, description="trade compute for memory")
    lr: float = Field(1e-6, gt=0)
    accumulation: int = Field(1, ge=1, description="forwards in one optimiser step")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of steps that warm up")
    scheduler: Literal["linear", "cosine", "constant"] = "cosine"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    seed: int = 0
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 autocast")
    save_dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="of the policy")
    save_steps: int = Field(100, ge=1, description="steps between resumable states")
    logging_steps: int = Field(1, ge=1)
    log_to: list[Literal["tensorboard", "wandb"]] = Field(["tensorboard"])

    @property
    def bf16(self) -> bool:
        return has_bf16() if self.precision == "auto" else self.precision == "bf16"


def load_policy(config: Tuning, tokenizer: Tokenizer) -> PreTrainedModel:
    """The policy in fp32 with its trainable part chosen; what is frozen is held in bf16 where
    autocast multiplies in it."""
    if config.lora is not None and config.train_layers is not None:
        raise SettingsError("lora trains adapters, train_layers the blocks themselves: keep one")
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        config.model,
        dtype=torch.float32,
        pad_token_id=tokenizer.pad_token_id,
        trust_remote_code=False,
    )
    backbone.select_trainable(model, config.train_layers)
    if config.bf16 and config.train_layers is not None:
        backbone.hold_frozen_in_bf16(model)
    return model


def adapters(config: Tuning) -> LoraConfig | None:
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
    return {
        "output_dir": str(config.out / "trainer"),
        "learning_rate": config.lr,
        "gradient_accumulation_steps": config.accumulation,
        "gradient_checkpointing": config.gradient_checkpointing,
        "warmup_steps": config.warmup,  # below 1, so a share
        "lr_scheduler_type": config.scheduler,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "seed": config.seed,
        "bf16": config.bf16,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_steps": config.save_steps,
        "save_total_limit": 1,
        "logging_steps": config.logging_steps,
        "report_to": list(config.log_to),
        "run_name": config.out.name,
    }


def begin(config: Tuning, data: Mapping[str, str], resume: bool) -> str | None:
    """The state to go on from, if there is one; says which run the directory is of.

    Refuses a directory that holds a policy, an unfinished run without ``resume``, or another run:
    the settings, the first policy or the ``data`` (digests) have changed.
    """
    if (config.out / POLICY_FILE).exists():
        raise SettingsError(f"{config.out} holds a tuned policy; choose another out=DIR")
    last = last_state(config.out / "trainer")
    if last and not resume:
        raise SettingsError(f"{config.out} holds an unfinished run; add --resume or choose out=DIR")
    run, path = run_digest(config, data), config.out / RUN_FILE
    if last and path.read_text() != run:
        raise SettingsError(
            f"{config.out} is of another run: base, settings or data have changed; choose another "
            f"out=DIR or remove {config.out}"
        )
    config.out.mkdir(parents=True, exist_ok=True)
    write_whole(path, run.encode())
    return last


def run_digest(config: Tuning, data: Mapping[str, str]) -> str:
    """Of everything that decides the weights of a step."""
    decisive = config.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    base = backbone.digest_of_base(config.model)
    return sha256(json.dumps([base, decisive, dict(data)], sort_keys=True).encode())


class Curves(TrainerCallback):
    """The logged figures as ``curves.json`` and ``curves.svg`` in the directory of the run."""

    def __init__(self, out: Path, shown: Mapping[str, str]):
        self._out, self._shown = out, shown

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_train_end(args, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            curves.write(self._out, state.log_history, self._shown)


def train(
    config: Tuning, trainer: Trainer, chat: Chat, data: Mapping[str, str], last: str | None
) -> None:
    """Train from the state ``last`` or from the start, and save."""
    refuse_shards(trainer)
    trainer.train(resume_from_checkpoint=last)
    if trainer.is_world_process_zero():
        save(config, trainer, chat)
        about = {
            "base": backbone.digest_of_base(config.model),
            "settings": config.model_dump(mode="json"),
            "data": dict(data),
            "steps": trainer.state.global_step,
        }
        write_whole(config.out / POLICY_FILE, json.dumps(about, indent=1).encode())
        print(f"{config.out}: tuned in {trainer.state.global_step} steps", flush=True)
    trainer.accelerator.wait_for_everyone()


def save(config: Tuning, trainer: Trainer, chat: Chat) -> None:
    """The policy whole: adapters merged into it."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if config.lora is not None:
        model = model.merge_and_unload()
    model.to(getattr(torch, config.save_dtype))
    chat.tokenizer.save_pretrained(config.out)
    model.save_pretrained(config.out)
