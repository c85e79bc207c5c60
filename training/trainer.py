"""The trainer of reward models: Transformers' own, with pairs, pair losses and pair metrics.

Accelerate, resume, loggers, FSDP and DeepSpeed come with the parent class.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from accelerate.utils import AutocastKwargs
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from plaudit.batch import Batch, PackedBatch, batch_for, can_pack
from plaudit.blocks import upper_states
from plaudit.forward import pooled_states
from plaudit.scalar_head import apply_head, head
from training import losses, validation
from training.contrastive import Contrast
from training.data.batches import Judged
from training.data.prompt_sampler import PromptSampler
from training.frozen_trunk import FrozenTrunk
from training.length_bias.odin import LengthHead
from training.length_bias.product_of_experts import LengthExpert
from training.meta import Shifted, difference, moved
from training.precision import trains_in_bf16
from training.settings import TrainSettings

# Of processes for the first, which loads, measures and writes what all have trained.
WAIT_SECONDS = 24 * 3600


class Forward(NamedTuple):
    """Raw scores (N,) of a batch's sequences, the states (N, D) that the head read, and what stands
    beside the scores (N,) while pairs are ranked: zeros, or what is to be kept out of them."""

    scores: Tensor
    states: Tensor
    beside: Tensor


class Scorer(nn.Module):
    """Raw scores through ``forward``, where autocast and DDP attach themselves."""

    def __init__(
        self,
        model: PreTrainedModel,
        trunk: FrozenTrunk | None = None,
        beside: LengthExpert | LengthHead | None = None,
        contrast: Contrast | None = None,
    ):
        """``beside`` and ``contrast`` are trained with the model and not saved with it."""
        super().__init__()
        self.model = model
        self._no_split_modules = model._no_split_modules  # what FSDP cuts between
        self.beside = beside
        self.contrast = contrast
        self._trunk = trunk

    def forward(
        self, batch: Batch, states: Tensor | None = None, characters: Tensor | None = None
    ) -> Forward:
        """With ``states`` (1, T, D) of a frozen trunk, only what is above it runs. What is trained
        beside the model reads the ``characters`` (N,) of the responses, and is left out without."""
        pooled = self._pooled(batch, states)
        scores = apply_head(self.model, pooled).clone()  # FSDP hooks into outputs, not into views
        if self.beside is None or characters is None:
            return Forward(scores, pooled, torch.zeros_like(scores))
        return Forward(scores, pooled, self.beside(pooled, characters))

    def _pooled(self, batch: Batch, states: Tensor | None) -> Tensor:
        if states is None:
            return pooled_states(self.model, batch)
        assert self._trunk is not None
        assert isinstance(batch, PackedBatch)
        return upper_states(self._trunk.upper, batch, states)


class PairTrainer(Trainer):
    """Minimises the pair loss of ``settings`` over batches of :class:`PairCollator`."""

    def __init__(self, settings: TrainSettings, shifted: Shifted | None = None, **arguments: Any):
        super().__init__(**arguments)
        self._settings = settings
        self._shifted = shifted
        self._backbone: PreTrainedModel = arguments["model"].model
        self._beside: LengthExpert | LengthHead | None = arguments["model"].beside
        self._contrast: Contrast | None = arguments["model"].contrast
        self._window = Window()
        self._order: PromptSampler | None = None
        if can_pack(self._backbone) and self.train_dataset is not None:
            self._order = PromptSampler(self.train_dataset["prompt"], settings.seed)
            self.add_callback(EpochOfOrder(self._order))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        found: Forward = model(inputs["batch"], inputs["states"], inputs["characters"])
        judged: Judged = inputs["judged"]
        chosen, rejected = found.scores[judged.chosen], found.scores[judged.rejected]
        ranked = found.scores + found.beside
        costs = losses.bradley_terry(
            ranked[judged.chosen],
            ranked[judged.rejected],
            judged.target_margin,
            losses.flipped_probability(judged.soft_label, self._settings.label_smoothing),
        )
        if self._settings.centring:
            costs = costs + self._settings.centring * losses.centring(chosen, rejected)
        loss = losses.mean_over_prompts(costs, judged.prompt)
        if self._beside is not None:
            quality = head(self._backbone).weight.flatten().float()
            loss = loss + self._beside.penalty(
                quality, found.scores, found.beside, inputs["characters"]
            )
        if self._contrast is not None:
            # The same batch again: within one, equal sequences may be computed once.
            second = model(batch=inputs["batch"], states=inputs["states"])
            term = self._contrast(found.states, second.states, judged, inputs["place"])
            self._window.note("contrastive", term.detach())
            loss = loss + term
        self._window.add((chosen - rejected).detach(), inputs["tokens"])
        return (loss, found) if return_outputs else loss

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> Any:
        """Accelerate puts autocast around a forward, but not around one in FSDP's shards. Its cache
        would keep a bf16 copy of weights that each process is to hold for a moment only."""
        if self.is_fsdp_enabled:
            return self.accelerator.autocast(AutocastKwargs(cache_enabled=False))
        return super().autocast_smart_context_manager(cache_enabled)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The parent's; a bias expert learns at a rate of its own."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        expert = self._settings.product_of_experts
        if expert is not None and self._beside is not None:
            own = list(self._beside.parameters())
            theirs = {id(parameter) for parameter in own}
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in theirs]
            optimizer.add_param_group({"params": own, "lr": expert.lr, "weight_decay": 0.0})
        return optimizer

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Leaves the gradient of the loss; with ``meta``, that at the weights one step further up
        the difference objective, for the optimiser to apply at these (arXiv:2405.00438)."""
        if self._shifted is None:
            return super().training_step(model, inputs, num_items_in_batch)
        with self._further_up(model, self._shifted):
            return super().training_step(model, inputs, num_items_in_batch)

    @contextmanager
    def _further_up(self, model: nn.Module, shifted: Shifted) -> Iterator[None]:
        # Dropout would make differences of its own, and take random numbers from the pairs'.
        model.eval()
        sequences = shifted.at(self.state.global_step)
        scores = model(batch=batch_for(self._backbone, sequences)).scores
        objective = difference(scores.unflatten(0, (-1, shifted.settings.responses)))
        self._window.note("difference", objective.detach())
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(objective, weights, allow_unused=True)
        with moved(weights, gradients, shifted.settings.step):
            yield

    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        """The parent's; what is logged of the training's speed leaves its time out."""
        with self._window.paused():
            return super().evaluate(*arguments, **options)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, Tensor, Tensor]:
        """Margins (P,) of validation pairs; ones stand for labels, without which the parent's loop
        measures nothing."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            scores = model(inputs["batch"], inputs["states"]).scores
        margins = scores[inputs["judged"].chosen] - scores[inputs["judged"].rejected]
        return None, margins, torch.ones_like(margins)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Packed batches are of few prompts; padded ones, the parent's, of similar lengths."""
        return super()._get_train_sampler(train_dataset) if self._order is None else self._order

    def _save_rng_state(self, output_dir: str) -> None:
        """trainer_state.json is written next, by the first process, and says that all is there: of
        every process."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = logs | self._window.close()
        super().log(logs, start_time)


class EpochOfOrder(TrainerCallback):
    """Tells the sampler its epoch: accelerate does not reach it where a run of several processes
    resumes inside an epoch."""

    def __init__(self, order: PromptSampler):
        self._order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._order.set_epoch(int(state.epoch))


class Window:
    """Accuracy, margin, speed and what was noted since the last log line."""

    def __init__(self) -> None:
        self._margins: list[Tensor] = []
        self._tokens = 0
        self._notes: dict[str, list[Tensor]] = {}
        self._since = time.monotonic()

    def add(self, margins: Tensor, tokens: int) -> None:
        self._margins.append(margins)
        self._tokens += tokens

    def note(self, name: str, value: Tensor) -> None:
        """A figure of one forward, whose mean is logged."""
        self._notes.setdefault(name, []).append(value)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What the body takes is not of the window."""
        began = time.monotonic()
        yield
        self._since += time.monotonic() - began

    def close(self) -> dict[str, float]:
        margins = torch.cat(self._margins)
        seconds = time.monotonic() - self._since
        found = {
            "accuracy": round((margins > 0).float().mean().item(), 4),
            "margin": round(margins.mean().item(), 4),
            "tokens_per_second": round(self._tokens / seconds, 1),
        }
        for name, values in self._notes.items():
            found[name] = round(torch.stack(values).mean().item(), 6)
        self.__init__()  # type: ignore[misc]
        return found


class Progress(ProgressCallback):
    """The progress bar, with the figures logged last after the time that is left."""

    SHOWN = ("loss", "accuracy", "margin", "tokens_per_second")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or self.training_bar is None:
            return
        if validation.ACCURACY in logs:
            accuracy, loss = logs[validation.ACCURACY], logs["eval_loss"]
            self.training_bar.write(
                f"step {state.global_step}: validation accuracy {accuracy:.3f}, loss {loss:.3f}"
            )
        if "loss" in logs:
            shown = {name: f"{float(logs[name]):.4g}" for name in self.SHOWN}
            self.training_bar.set_postfix(shown, refresh=True)


def use_bf16(settings: TrainSettings) -> bool:
    return trains_in_bf16(settings.precision)


def arguments(settings: TrainSettings) -> TrainingArguments:
    told: dict[str, Any] = {
        "output_dir": str(settings.out / "trainer"),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.lr,
        "per_device_train_batch_size": settings.batch_pairs,
        "gradient_accumulation_steps": settings.accumulation,
        "warmup_steps": settings.warmup,  # below 1, so a share
        "lr_scheduler_type": settings.scheduler,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "train_sampling_strategy": "group_by_length",
        "length_column_name": "length",
        "remove_unused_columns": False,
        "seed": settings.seed,
        "bf16": use_bf16(settings),
        "use_cpu": not torch.cuda.is_available(),
        "ddp_find_unused_parameters": False,
        "ddp_timeout": WAIT_SECONDS,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_steps": settings.save_steps,
        "save_total_limit": 1,
        "logging_steps": settings.logging_steps,
        "report_to": list(settings.log_to),
        "run_name": settings.out.name,
    }
    return TrainingArguments(**told | validation.arguments(settings))
