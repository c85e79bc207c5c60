"""Attention over a packed row: a node sees its ancestors and its own past.

Registered with Transformers' attention interface, so no model code is rewritten. Letters: H query
heads, K key heads, T tokens of the row, Q and S tokens of queries and keys, D width of a head.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PretrainedConfig

from plaudit.cascade import Cascade, cascade_attention
from plaudit.packing import Packed

NAME = "plaudit_packed"

# Models each proven equal to Transformers, one sequence at a time, in scores and gradients
# (tests/plaudit/test_reward_model.py). Others are padded.
PROVEN = frozenset({"gemma2", "gemma3_text", "gpt2", "llama", "mistral", "qwen2", "qwen3"})


def is_proven(config: PretrainedConfig) -> bool:
    """Whether a model of this config may run packed: of a proven type, and causal."""
    causal = getattr(config, "is_causal", True)
    bidirectional = getattr(config, "use_bidirectional_attention", None)
    return config.model_type in PROVEN and causal and not bidirectional


@dataclass(frozen=True)
class Plan:
    """What the attention function needs of a packed row, made once for all layers."""

    packed: Packed
    sizes: list[int]
    ancestors: list[list[int]]
    longest: int
    device: torch.device
    _masks: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, packed: Packed, device: torch.device) -> "Plan":
        sizes = [node.stop - node.start for node in packed.nodes]
        ancestors = [packed.ancestors(i) for i in range(len(sizes))]
        longest = max(node.first_position + node.stop - node.start for node in packed.nodes)
        return cls(packed, sizes, ancestors, longest, device)

    @cached_property
    def cascade(self) -> Cascade:
        return Cascade.of(self.packed)

    def is_causal(self, node: int, window: int | None) -> bool:
        """Whether a node sees its own past and nothing else."""
        return not self.ancestors[node] and (window is None or self.sizes[node] <= window)

    def mask(self, node: int, window: int | None) -> Tensor:
        """True (Q, S) where a node's token sees one of its ancestors' or its own: not later, and
        fewer than ``window`` positions back."""
        found = self._masks.get((node, window))
        if found is None:
            before = sum(self.sizes[a] for a in self.ancestors[node])
            key = torch.arange(before + self.sizes[node], device=self.device)
            query = key[before:, None]
            found = key <= query
            if window is not None:
                found &= query - key < window
            self._masks[node, window] = found
        return found


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
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Queries (1, H, T, D), keys and values (1, K, T, D) to outputs (1, T, H, D).

    ``split`` and ``cat`` rather than slices: the gradient of a slice is as long as the whole row.
    """
    if sliding_window is not None and sliding_window >= plan.longest:
        sliding_window = None
    plain = dropout == 0 and sliding_window is None and softcap is None
    scoring = query.device.type == "cpu" and not torch.is_grad_enabled()
    if plain and scoring and query.dtype == key.dtype == value.dtype:
        return cascade_attention(query, key, value, plan.cascade, scaling), None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    queries, keys, values = (torch.split(x, plan.sizes, dim=2) for x in (query, key, value))
    outputs = []
    for i, above in enumerate(plan.ancestors):
        seen = [*above, i]
        known = torch.cat([keys[j] for j in seen], dim=2)
        held = torch.cat([values[j] for j in seen], dim=2)
        if softcap is not None:
            mask = plan.mask(i, sliding_window)
            outputs.append(_softcapped(queries[i], known, held, mask, scaling, softcap, dropout))
            continue
        causal = plan.is_causal(i, sliding_window)
        outputs.append(
            scaled_dot_product_attention(
                queries[i],
                known,
                held,
                attn_mask=None if causal else plan.mask(i, sliding_window),
                dropout_p=dropout,
                is_causal=causal,
                scale=scaling,
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _softcapped(  # noqa: PLR0913
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float,
    cap: float,
    dropout: float,
) -> Tensor:
    """Attention whose logits are ``cap tanh(x / cap)`` (arXiv:2408.00118 section 2), which the
    fused kernels of torch do not know. Queries (1, H, Q, D) to outputs of that shape."""
    logits = cap * torch.tanh(query @ key.transpose(2, 3) * scaling / cap)
    weights = logits.masked_fill(~mask, -torch.inf).softmax(-1, dtype=torch.float32)
    return drop(weights.to(value.dtype), dropout) @ value


AttentionInterface.register(NAME, packed_attention)
