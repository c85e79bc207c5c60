"""Transformers' trainer with the loss of RRHF: a row is a prompt with all its responses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

from training import fine_tuning
from training.fine_tuning import FineTuning
from training.policy.candidates import Candidates
from training.policy.chat import Chat
from training.policy.likelihood import AnswerBatch, mean_log_probabilities
from training.policy.rrhf_loss import rrhf


def examples(rows: Sequence[Candidates], chat: Chat, max_tokens: int) -> list[dict[str, Any]]:
    """Ids of each prompt and of its responses that have a reward and fit; a prompt with none is
    left out."""
    found = []
    for one in rows:
        prompt = chat.prompt(one.prompt)
        ended = one.ended()
        known = [
            (chat.response(one.prompt, *ended[place]), reward) for place, reward in one.known()
        ]
        fit = [
            (ids, reward) for ids, reward in known if ids and len(prompt) + len(ids) <= max_tokens
        ]
        if fit:
            responses, rewards = zip(*fit, strict=True)
            found.append({"prompt": prompt, "responses": list(responses), "rewards": list(rewards)})
    return found


class Collator:
    """Rows to one batch of all their responses."""

    def __init__(self, model: PreTrainedModel):
        self._model = model

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        answers = [(row["prompt"], ids) for row in rows for ids in row["responses"]]
        rewards = [reward for row in rows for reward in row["rewards"]]
        prompt = [number for number, row in enumerate(rows) for _ in row["responses"]]
        device = self._model.device
        return {
            "batch": AnswerBatch.of(self._model, answers),
            "rewards": torch.tensor(rewards, device=device),
            "prompt": torch.tensor(prompt, device=device),
        }


class RrhfTrainer(Trainer):
    """Minimises ``rank_weight`` times the ranking loss plus the likelihood loss of the best."""

    def __init__(self, rank_weight: float, **arguments: Any):
        super().__init__(**arguments)
        self._rank_weight = rank_weight
        self._parts: list[Tensor] = []
        # The loss is a mean over a batch's prompts, whatever the model's own loss is.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        log_probabilities = mean_log_probabilities(model, inputs["batch"])
        loss = rrhf(log_probabilities, inputs["rewards"], inputs["prompt"])
        self._parts.append(torch.stack(loss).detach())
        total = self._rank_weight * loss.ranking + loss.likelihood
        return (total, log_probabilities) if return_outputs else total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._parts:
            ranking, likelihood = torch.stack(self._parts).mean(dim=0).tolist()
            logs = logs | {"ranking": round(ranking, 6), "likelihood": round(likelihood, 6)}
            self._parts.clear()
        super().log(logs, start_time)


def trainer(
    model: PreTrainedModel,
    rows: Sequence[dict[str, Any]],
    config: FineTuning,
    rank_weight: float,
    states: Path,
) -> RrhfTrainer:
    """Of batches of whole prompts, as many as ``batch_responses`` hold of the largest."""
    largest = max(len(row["responses"]) for row in rows)
    given = fine_tuning.arguments(config, states, states.name)
    given["per_device_train_batch_size"] = max(1, config.batch_responses // largest)
    return RrhfTrainer(
        rank_weight,
        model=model,
        args=TrainingArguments(**given, remove_unused_columns=False),
        train_dataset=Dataset.from_list(list(rows)),
        data_collator=Collator(model),
    )
