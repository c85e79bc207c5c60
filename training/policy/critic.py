"""The critic of PPO: how much reward it expects after each token, and what came beyond that.

Letters: B responses, T tokens of the longest.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import mse_loss
from transformers import AutoModelForTokenClassification, PreTrainedModel

from plaudit import scalar_head
from training import hub


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimates (B, T) (arXiv:1506.02438): sums over the rest of a response
    of ``(gamma · lam)^k · (r + gamma · V_next - V)``.

    ``rewards`` (B,) are given at a response's last token, after which the value is 0; ``values``
    (B, T) are those before each token; ``mask`` (B, T) is 1 on a response's own tokens, the first
    ones of its row.
    """
    last = mask.sum(dim=1, keepdim=True).long() - 1
    found = torch.zeros_like(values)
    ahead = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards)
    for place in reversed(range(values.shape[1])):
        own = mask[:, place].bool()
        reward = torch.where(last[:, 0] == place, rewards, 0.0)
        error = reward + gamma * following - values[:, place]
        ahead = torch.where(own, error + gamma * lam * ahead, 0.0)
        following = torch.where(own, values[:, place], 0.0)
        found[:, place] = ahead
    return found


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """With mean 0 and deviation 1 over the tokens of ``mask``, and 0 elsewhere."""
    chosen = values[mask.bool()]
    if len(chosen) < 2:
        return torch.zeros_like(values)
    return (values - chosen.mean()) / (chosen.std() + 1e-8) * mask


class Critic:
    """A model with one output a token, and its optimiser."""

    def __init__(self, model: PreTrainedModel, lr: float):
        # Without dropout: its values are targets too.
        self.model = model.eval()
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)

    @classmethod
    def load(cls, model: str, lr: float, pad_token_id: int, device: torch.device) -> "Critic":
        """In fp32; it begins by expecting nothing."""
        found: PreTrainedModel = AutoModelForTokenClassification.from_pretrained(
            model,
            revision=hub.revision(model),
            num_labels=1,
            dtype=torch.float32,
            pad_token_id=pad_token_id,
            trust_remote_code=False,
        )
        for parameter in scalar_head.head(found).parameters():
            torch.nn.init.zeros_(parameter)
        return cls(found.to(device), lr)

    def values(self, ids: Tensor, seen: Tensor, tokens: int) -> Tensor:
        """(B, T), fp32: what is expected before each of the last ``tokens`` of ``ids`` (B, S);
        ``seen`` (B, S) is 1 on what is no padding."""
        made = self.model(input_ids=ids, attention_mask=seen, use_cache=False).logits
        found: Tensor = made[:, -tokens - 1 : -1, 0].float()
        return found

    def fit(self, found: Tensor, returns: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        """What values (B, T) cost on the tokens of ``mask``, as a part of the mean over ``tokens``
        (1,), those of all that is fitted before the next step. Its gradient is added to what the
        weights have."""
        cost = mse_loss(found[mask.bool()], returns[mask.bool()], reduction="sum") / tokens
        cost.backward()  # type: ignore[no-untyped-call]
        return cost.detach()

    def step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def save(self, path: Path) -> None:
        """Weights, and what the optimiser remembers of each."""
        held = {f"weight.{name}": value for name, value in self.model.state_dict().items()}
        remembered = self.optimiser.state_dict()["state"]
        for place, moments in remembered.items():
            held |= {f"optimiser.{place}.{name}": value for name, value in moments.items()}
        save_file({name: value.contiguous() for name, value in held.items()}, path)

    def restore(self, path: Path) -> None:
        held = load_file(path)
        weights = {n.removeprefix("weight."): v for n, v in held.items() if n.startswith("weight.")}
        self.model.load_state_dict(weights)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in held.items():
            if name.startswith("optimiser."):
                _, place, moment = name.split(".")
                state.setdefault(int(place), {})[moment] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
