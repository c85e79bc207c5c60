"""Modules that treat each token by itself, run on a few rows at a time when scoring on a CPU.

An MLP of a packed row of thousands of tokens writes and reads tens of megabytes between its matrix
products; on some rows at a time the same values stay in cache. The modules' own forwards run, so
nothing is computed otherwise. Letters: T tokens of a packed row, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

# At width 576, 512 and 1,024 rows are as fast; 256 gain less (docs/performance.md).
ROWS = 1024

Forward = Callable[[Tensor], Tensor]


def run_by_rows(model: PreTrainedModel) -> None:
    """Let the MLPs and norms of a decoder's blocks take ``ROWS`` tokens at a time."""
    for name, module in model.base_model.named_modules():
        if name.endswith(("mlp", "layernorm")):
            module.forward = by_rows(module.forward)


def by_rows(forward: Forward) -> Forward:
    """``forward`` (1, T, D) to (1, T, D) in pieces; whole where a gradient may be wanted, since
    training's memory is better used otherwise."""

    def run(hidden: Tensor) -> Tensor:
        if torch.is_grad_enabled() or hidden.shape[1] <= ROWS:
            return forward(hidden)
        out = torch.empty_like(hidden)
        for start in range(0, hidden.shape[1], ROWS):
            out[:, start : start + ROWS] = forward(hidden[:, start : start + ROWS])
        return out

    return run
