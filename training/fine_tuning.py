"""How the weights of a causal language model are changed: what its trainers have in common."""

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import AutoModelForCausalLM, PreTrainedModel

from training import backbone, hub
from training.loggers import Logger
from training.precision import Precision, trains_in_bf16


class FineTuning(BaseModel):
    """Settings of one optimisation, whatever its loss."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    train_layers: int | None = Field(None, ge=1, description="top blocks to train; null: all")
    gradient_checkpointing: bool = Field(False, description="trade compute for memory")
    epochs: float = Field(1.0, gt=0, description="passes over what is trained on")
    lr: float = Field(2e-5, gt=0, description="highest learning rate, after the warm-up")
    batch_responses: int = Field(16, ge=1, description="responses in one forward")
    accumulation: int = Field(1, ge=1, description="forwards in one optimiser step")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of steps that warm up")
    scheduler: Literal["linear", "cosine", "constant"] = Field(
        "cosine", description="how lr falls after the warm-up"
    )
    weight_decay: float = Field(0.0, ge=0, description="of AdamW, decoupled")
    max_grad_norm: float = Field(1.0, gt=0, description="longer gradients are cut to it")
    seed: int = Field(0, description="data order")
    precision: Precision = Field("auto", description="auto: bf16 autocast")
    save_dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="of checkpoints")
    save_steps: int = Field(100, ge=1, description="steps between resumable states")
    logging_steps: int = Field(10, ge=1, description="steps between lines of the log")
    log_to: list[Logger] = Field(["tensorboard"], description="tensorboard, wandb, or none: []")


def arguments(config: FineTuning, out: Path, name: str) -> dict[str, Any]:
    """What Transformers' ``TrainingArguments``, and those of TRL, are to be told."""
    return {
        "output_dir": str(out),
        "run_name": name,
        "num_train_epochs": config.epochs,
        "learning_rate": config.lr,
        "per_device_train_batch_size": config.batch_responses,
        "gradient_accumulation_steps": config.accumulation,
        "gradient_checkpointing": config.gradient_checkpointing,
        "warmup_steps": config.warmup,  # below 1, so a share
        "lr_scheduler_type": config.scheduler,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "seed": config.seed,
        "bf16": trains_in_bf16(config.precision),
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_steps": config.save_steps,
        "save_total_limit": 1,
        "logging_steps": config.logging_steps,
        "report_to": list(config.log_to),
    }


def load(config: FineTuning, model: str, pad_token_id: int | None) -> PreTrainedModel:
    """The fp32 language model with its trainable part."""
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        model,
        revision=hub.revision(model),
        dtype=torch.float32,
        pad_token_id=pad_token_id,
        trust_remote_code=False,
    )
    backbone.select_trainable(found, config.train_layers)
    return found
