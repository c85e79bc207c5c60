"""Attention over a packed row: a node sees its ancestors and its own past.

Registered with Transformers' attention interface, so no model code is rewritten. Each group of
siblings (plaudit/siblings.py) goes through batched matrix products, some queries at a time, so that
few weights are computed that nobody sees. On two CPU cores these were faster than torch's fused
kernels (docs/performance.md).

Letters: H query heads, K key heads, G = H / K, T tokens of the row, B nodes of at most L tokens, P
tokens of their ancestors, Q queries taken at a time and the S keys up to the last of them, D width
of a head.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, PretrainedConfig

from plaudit import siblings
from plaudit.packing import Packed
from plaudit.prefix_cache import Memory
from plaudit.siblings import QUERIES, Layout

NAME = "plaudit_packed"
# Keys beyond which weights are computed again for a gradient: kept, they would grow with the square
# of the length.
KEPT = 1024

Option = TypeVar("Option")
Made = TypeVar("Made")
LayOut = Callable[[Packed, int, torch.device], Layout]

# Models each proven equal to Transformers, one sequence at a time, in scores and gradients
# (tests/plaudit/test_reward_model.py). Others are padded.
PROVEN = frozenset({"gemma2", "gemma3_text", "gpt2", "llama", "mistral", "qwen2", "qwen3"})

# Rotary embeddings whose angles follow the longest position of a forward, so that a token's depend
# on what else is in the row.
LENGTH_DEPENDENT = frozenset({"dynamic", "longrope"})


def is_proven(config: PretrainedConfig) -> bool:
    """Whether a model of this config may run packed: of a proven type, causal, and with rotary
    angles that depend on a token's own position alone."""
    causal = getattr(config, "is_causal", True)
    bidirectional = getattr(config, "use_bidirectional_attention", None)
    fixed = not rope_types(config) & LENGTH_DEPENDENT
    return config.model_type in PROVEN and causal and not bidirectional and fixed


def rope_types(config: PretrainedConfig) -> set[str]:
    """Of all layers: some configs have parameters for each type of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    by_layer = [one for one in parameters.values() if isinstance(one, dict)] or [parameters]
    return {one.get("rope_type", "default") for one in by_layer}


@dataclass(frozen=True)
class Plan:
    """What attention needs of a packed row, made once for all layers. A ``memory`` gives the keys
    and values of the row's held tokens, and takes those of the others."""

    packed: Packed
    device: torch.device
    memory: Memory | None = None
    _made: dict[tuple[Any, Any], Any] = field(default_factory=dict)

    def once(self, make: Callable[[Packed, Option, torch.device], Made], option: Option) -> Made:
        """What ``make`` makes of the row, for the first of the layers that have this option."""
        if (make, option) not in self._made:
            self._made[make, option] = make(self.packed, option, self.device)
        found: Made = self._made[make, option]
        return found


@dataclass(frozen=True)
class Rule:
    """How a query weighs its keys: logits times ``scaling``; then ``cap tanh(logit / cap)`` (Gemma
    2, arXiv:2408.00118 section 2); nothing ``window`` or more positions back; dropout."""

    scaling: float
    window: int | None
    cap: float | None
    dropout: float

    def outputs(self, query: Tensor, key: Tensor, value: Tensor, group: int) -> Tensor:
        """Weighted values (N, Q G, D) of queries (N, Q G, D) that are the last of all keys."""
        return self.weights(query, key, group) @ value

    def weights(self, query: Tensor, key: Tensor, group: int) -> Tensor:
        """Weights (N, Q G, S) of queries (N, Q G, D) that are the last of all keys (N, S, D)."""
        logits = torch.baddbmm(
            query.new_empty(()), query, key.transpose(1, 2), beta=0, alpha=self.scaling
        )
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        rows, asked, keys = logits.shape
        bias = self.bias(logits.new_full((asked // group, keys), -torch.inf))
        # The G query heads of a key head see the same.
        logits.view(rows, -1, group, keys)[..., -bias.shape[1] :] += bias[:, None]
        return drop(torch.softmax(logits, -1), self.dropout)

    def bias(self, unseen: Tensor) -> Tensor:
        """``unseen`` (Q, S), all -inf, with 0 where the last Q of S tokens look; its last (Q, Q) if
        they see all that is before them."""
        queries, keys = unseen.shape
        if self.window is None or keys <= self.window:
            return unseen[:, -queries:].triu(1)
        before = keys - queries
        return unseen.triu(before + 1) + unseen.tril(before - self.window)


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
    lay_out: LayOut = siblings.lay_out,
    **_: Any,
) -> tuple[Tensor, None]:
    """Queries (1, H, T, D), keys and values (1, K, T, D) to outputs (1, T, H, D)."""
    rule = Rule(scaling, sliding_window, softcap, dropout)
    tokens, heads = key.shape[2], key.shape[1]
    queries, keys, values = (by_tokens(x, heads) for x in (query, key, value))
    if plan.memory is not None:
        keys, values = plan.memory.extend(keys, values, heads)
    layout = plan.once(lay_out, heads)
    seen = [group.seen for group in layout.groups]
    gathered = zip(
        gather(queries, [group.own for group in layout.groups]),
        gather(keys, seen),
        gather(values, seen),
        strict=True,
    )
    found = torch.cat([piece for group in gathered for piece in _attend(*group, rule)])
    output = found.index_select(0, layout.order.view(-1))
    return output.view(1, tokens, *query.shape[1::2]), None


def by_tokens(x: Tensor, heads: int) -> Tensor:
    """(1, H, T, D) as rows (T K, G D), token by token, of ``heads`` key heads."""
    tokens = x.shape[2]
    return x[0].transpose(0, 1).reshape(tokens * heads, -1)


def gather(rows: Tensor, groups: Sequence[Tensor]) -> Iterable[Tensor]:
    """Rows (..., width) by the indices of each group: at once where a gradient may be wanted, since
    that of each gather is as long as all rows; else one by one, since all may be large."""
    if torch.is_grad_enabled():
        whole = rows.index_select(0, torch.cat([group.view(-1) for group in groups]))
        parts = torch.split(whole, [group.numel() for group in groups])
        return (x.view(*group.shape, -1) for x, group in zip(parts, groups, strict=True))
    return (rows.index_select(0, group.view(-1)).view(*group.shape, -1) for group in groups)


def _attend(query: Tensor, key: Tensor, value: Tensor, rule: Rule) -> Iterator[Tensor]:
    """Outputs (B K Q, G D), some queries at a time, of queries (B, K, L, G D) after the first of
    the keys and values (B, K, P + L, D)."""
    length, width = query.shape[2], key.shape[3]
    keys, values = key.flatten(0, 1), value.flatten(0, 1)
    asked = query.view(len(keys), length, -1, width)
    before = keys.shape[1] - length
    for start in range(0, length, QUERIES):
        stop = min(start + QUERIES, length)
        some, seen = asked[:, start:stop], before + stop
        piece = some.flatten(1, 2), keys[:, :seen], values[:, :seen], some.shape[2]
        if torch.is_grad_enabled() and seen > KEPT:
            found = checkpoint(rule.outputs, *piece, use_reentrant=False)
        else:
            found = rule.outputs(*piece)
        yield found.view(-1, query.shape[3])


AttentionInterface.register(NAME, packed_attention)
