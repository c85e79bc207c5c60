"""Weights of a body's linear layers as int8, and products in integers.

A row of weights has one scale, its largest value over 127; so has every token that comes in, found
as it comes ("W8A8, dynamic, per token" elsewhere: Dettmers et al., arXiv:2208.07339, without its
outliers apart). Integer sums are exact in any order, so a product does not depend on what else is
in it. Embeddings, norms, attention and the head stay as they are.

Letters: T tokens, D what comes in of each, E what goes out.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plaudit import attention
from plaudit.checkpoint import CheckpointError

NAME = "int8"
LARGEST = 127
# Tokens taken at a time: what stands between the steps stays in cache (docs/performance.md).
ROWS = 256
# Proven to run (tests/plaudit/test_int8.py). The blocks of GPT-2 hold no linear layers of torch.
ARCHITECTURES = attention.PROVEN - {"gpt2"}


class Int8Linear(nn.Module):
    """What a linear layer gives, from int8 weights (E, D) and a scale in fp32 for each E."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        integers, scales = rounded(linear.weight.detach())
        self.weight = nn.Parameter(integers, requires_grad=False)
        self.scales = nn.Parameter(scales[:, 0], requires_grad=False)
        self.bias = linear.bias

    def forward(self, tokens: Tensor) -> Tensor:
        """Of (..., D), in their dtype: (..., E). No gradient passes."""
        rows = tokens.reshape(-1, tokens.shape[-1])
        found = rows.new_empty(len(rows), len(self.weight))
        for start in range(0, len(rows), ROWS):
            found[start : start + ROWS] = self._product(rows[start : start + ROWS])
        return found.view(*tokens.shape[:-1], -1)

    def _product(self, tokens: Tensor) -> Tensor:
        integers, scales = rounded(tokens)
        sums = torch._int_mm(integers, self.weight.t())
        found = sums.float().mul_(scales).mul_(self.scales)
        return found if self.bias is None else found.add_(self.bias)


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (T, D) as int8, and what to multiply each with, (T, 1) in fp32, to have it back."""
    largest = rows.abs().amax(1, keepdim=True).float()
    scales = largest.clamp_min_(torch.finfo(torch.float32).tiny * LARGEST).div_(LARGEST)
    return rows.float().div(scales).round_().to(torch.int8), scales


def quantise(model: PreTrainedModel) -> None:
    """Let the linear layers of the model's body hold int8; CheckpointError where that cannot be."""
    refuse_unfit(model)
    refuse_wrong_sums()
    body: nn.Module = model.base_model
    linear = [(name, one) for name, one in body.named_modules() if isinstance(one, nn.Linear)]
    for name, one in linear:
        body.set_submodule(name, Int8Linear(one))


def refuse_unfit(model: PreTrainedModel) -> None:
    kind = model.config.model_type
    if kind not in ARCHITECTURES or not attention.is_proven(model.config):
        raise CheckpointError(
            f"int8 weights are proven for {', '.join(sorted(ARCHITECTURES))} that run packed, not "
            f"for this {kind} model: serve it with --dtype bfloat16"
        )
    if model.device.type != "cpu":
        raise CheckpointError(
            f"int8 weights are computed with on CPUs, not on {model.device.type}: add --device "
            "cpu, or serve with --dtype bfloat16"
        )


def refuse_wrong_sums() -> None:
    """CPUs without VNNI add products in 16 bits, where the largest do not fit (oneDNN, "Nuances of
    int8 computations"); whether torch minds is tried."""
    largest = torch.full((32, 64), LARGEST, dtype=torch.int8)
    if (torch._int_mm(largest, -largest.t()) != -64 * LARGEST**2).any():
        raise CheckpointError(
            "int8 products overflow on this CPU: serve with --dtype bfloat16 or float32"
        )
