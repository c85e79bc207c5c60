"""Weights of a body's linear layers as int8 ("W8A16" elsewhere), for the memory that they save.

A row of weights has one scale, its largest value over 127. For each product they are made what
they stand for in the tokens' dtype. Tokens are not rounded to int8: that costs four times the error
(docs/performance.md). Embeddings, norms, attention and the head stay as they are.

Letters: D what comes in of each token, E what goes out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from plaudit import attention
from plaudit.checkpoint import CheckpointError

NAME = "int8"
LARGEST = 127
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
        """Of (…, D): (…, E), both in the tokens' dtype."""
        weight = (self.weight * self.scales[:, None]).to(tokens.dtype)
        return functional.linear(tokens, weight, self.bias)


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (E, D) as int8, and what to multiply each with, (E, 1) in fp32, to have it back."""
    largest = rows.abs().amax(1, keepdim=True).float()
    scales = largest.clamp_min_(torch.finfo(torch.float32).tiny * LARGEST).div_(LARGEST)
    return rows.float().div(scales).round_().to(torch.int8), scales


def quantise(model: PreTrainedModel) -> None:
    """Let the linear layers of the model's body hold int8; CheckpointError where that cannot be."""
    refuse_unproven(model)
    body: nn.Module = model.base_model
    # By name: a list of the layers would keep their former weights to the end.
    for name in [name for name, one in body.named_modules() if isinstance(one, nn.Linear)]:
        linear = body.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        body.set_submodule(name, Int8Linear(linear))


def refuse_unproven(model: PreTrainedModel) -> None:
    kind = model.config.model_type
    if kind not in ARCHITECTURES or not attention.is_proven(model.config):
        raise CheckpointError(
            f"int8 weights are proven for {', '.join(sorted(ARCHITECTURES))} that run packed, not "
            f"for this {kind} model: serve it with --dtype bfloat16"
        )
