"""PPO (arXiv:1707.06347) on TRL's GRPO trainer, with a critic in the place of the group's mean.

TRL 1.16 has no PPO of its own (huggingface/trl#7020 took it out). Its GRPO loss is PPO's clipped
objective, and takes advantages of single tokens.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.policy.critic import Critic, advantages, whitened
from training.policy.group_trainer import GroupTrainer
from training.policy.rewards_ahead import RewardFunction

# The critic beside the policy in a resumable state.
CRITIC = "critic.safetensors"


class PpoTrainer(GroupTrainer):
    """A response's reward stands at its last token; a response without one teaches nothing."""

    def __init__(
        self,
        reward: RewardFunction,
        parts: int,
        critic: Critic,
        gamma: float,
        lam: float,
        **arguments: Any,
    ):
        self._critic, self._gamma, self._lam = critic, gamma, lam
        self._rewards = torch.empty(0)
        super().__init__(reward, parts, **arguments)

    def _calculate_rewards(self, inputs: Any, prompts: Any, *rest: Any) -> Any:
        found = super()._calculate_rewards(inputs, prompts, *rest)
        first = self.accelerator.process_index * len(prompts)
        self._rewards = found[first : first + len(prompts), 0]
        return found

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        made = super()._generate_and_score_completions(inputs)
        if self.model.training:
            made["advantages"] = self._judge(made)
        return made

    def _judge(self, made: dict[str, Tensor]) -> Tensor:
        """Advantages (B, T), by the critic as it was; then it learns from the same rewards."""
        ids = torch.cat([made["prompt_ids"], made["completion_ids"]], dim=1)
        seen = torch.cat([made["prompt_mask"], made["completion_mask"]], dim=1)
        mask = made["completion_mask"] * ~self._rewards.isnan()[:, None]
        rewards = self._rewards.nan_to_num()
        tokens = mask.shape[1]
        values = torch.cat([*self._values(ids, seen, tokens)])
        found = advantages(rewards, values, mask, self._gamma, self._lam)
        self._teach(ids, seen, found + values, mask)
        return whitened(found, mask)

    def _values(self, ids: Tensor, seen: Tensor, tokens: int) -> Any:
        with torch.no_grad(), self.accelerator.autocast():
            for part in self._micro_batches(len(ids)):
                yield self._critic.values(ids[part], seen[part], tokens)

    def _teach(self, ids: Tensor, seen: Tensor, returns: Tensor, mask: Tensor) -> None:
        tokens = mask.sum()
        if not tokens:
            return
        parts = [part for part in self._micro_batches(len(ids)) if mask[part].any()]
        for _ in range(self.num_iterations):
            costs = []
            for part in parts:
                with self.accelerator.autocast():
                    found = self._critic.values(ids[part], seen[part], mask.shape[1])
                costs.append(self._critic.fit(found, returns[part], mask[part], tokens))
            self._critic.step()
            self._metrics["train"]["critic/loss"].append(float(torch.stack(costs).sum()))

    def _micro_batches(self, rows: int) -> list[slice]:
        size = self.args.per_device_train_batch_size
        return [slice(start, start + size) for start in range(0, rows, size)]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The critic first: the state counts as whole once the parent has written its own."""
        directory = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        directory.mkdir(parents=True, exist_ok=True)
        self._critic.save(directory / CRITIC)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._critic.restore(Path(resume_from_checkpoint) / CRITIC)
