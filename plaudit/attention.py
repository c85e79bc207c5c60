"""Attention over a packed row: a node sees its ancestors and its own past.

Registered with Transformers' attention interface, so no model code is rewritten. Letters: H query
heads, K key heads, T tokens of the row, D width of a head.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from plaudit.packing import Packed

NAME = "plaudit_packed"

# Models whose attention is plain softmax over all earlier tokens, each proven equal to
# Transformers, one sequence at a time (tests/plaudit/test_reward_model.py). Others are padded.
PROVEN = frozenset({"llama", "qwen2", "qwen3"})


@dataclass(frozen=True)
class Plan:
    """What the attention function needs of a packed row, made once for all layers."""

    sizes: list[int]
    ancestors: list[list[int]]
    masks: list[Tensor | None]

    @classmethod
    def of(cls, packed: Packed, device: torch.device) -> "Plan":
        sizes = [node.stop - node.start for node in packed.nodes]
        ancestors = [packed.ancestors(i) for i in range(len(sizes))]
        masks = [
            _mask(size, sum(sizes[a] for a in above), device) if above else None
            for size, above in zip(sizes, ancestors, strict=True)
        ]
        return cls(sizes, ancestors, masks)


def _mask(size: int, before: int, device: torch.device) -> Tensor:
    """True where one of ``size`` tokens sees its ``before`` ancestors' tokens or its own past."""
    seen = torch.ones(size, before + size, dtype=torch.bool, device=device)
    return seen.tril(diagonal=before)


def packed_attention(  # noqa: PLR0913  the interface of Transformers
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plan: Plan,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Queries (1, H, T, D), keys and values (1, K, T, D) to outputs (1, T, H, D).

    ``split`` and ``cat`` rather than slices: the gradient of a slice is as long as the whole row.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    queries, keys, values = (torch.split(x, plan.sizes, dim=2) for x in (query, key, value))
    outputs = []
    for i, (above, mask) in enumerate(zip(plan.ancestors, plan.masks, strict=True)):
        seen = [*above, i]
        outputs.append(
            scaled_dot_product_attention(
                queries[i],
                torch.cat([keys[j] for j in seen], dim=2),
                torch.cat([values[j] for j in seen], dim=2),
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=scaling,
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2), None


AttentionInterface.register(NAME, packed_attention)
