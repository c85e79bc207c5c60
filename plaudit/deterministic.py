"""Scores that do not depend, in any bit, on what else is in a forward.

The last bits of a matrix product depend on its shape: how many rows it has decides in which order a
library sums (Thinking Machines Lab, "Defeating Nondeterminism in LLM Inference", 2025). Here every
module sees ``ROWS`` tokens at a time, the last piece filled up, and every product of attention
``CHUNK`` queries of one sequence with the keys up to them. Products of weights still take tokens of
many sequences together.

That a library computes a row of a product of fixed shape alike wherever it stands is not promised
by any; :func:`plaudit.invariance.verify` tries it on the machine.

Letters: T tokens of a packed row, K key heads.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from plaudit.attention import packed_attention
from plaudit.packing import Packed
from plaudit.siblings import Layout, Siblings, above, rows

NAME = "plaudit_deterministic"
ROWS = 256
CHUNK = 64

# Modules whose outputs are copies, so that no shape changes a bit of them.
EXACT = (nn.Embedding, nn.Dropout, nn.Identity)


def make_deterministic(model: PreTrainedModel) -> None:
    """Let a packed model score every sequence as if it were alone. It cannot train then."""
    model.set_attn_implementation(NAME)
    for name, module in model.base_model.named_modules():
        if name.endswith("rotary_emb"):
            module.forward = angles_in_pieces(module.forward)
        elif name.endswith("mlp") or (is_leaf(module) and ".mlp." not in name):
            module.forward = in_pieces(module.forward)


def is_deterministic(model: PreTrainedModel) -> bool:
    return bool(model.config._attn_implementation == NAME)


def is_leaf(module: nn.Module) -> bool:
    return not any(module.children()) and not isinstance(module, EXACT)


def in_pieces(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``forward`` (…, D) to (…, E), ``ROWS`` vectors at a time, be they tokens or their heads."""

    def run(hidden: Tensor) -> Tensor:
        vectors = hidden.reshape(1, -1, hidden.shape[-1])
        found = torch.cat([forward(piece) for piece in pieces(vectors)], 1)
        return found[:, : vectors.shape[1]].reshape(*hidden.shape[:-1], -1)

    return run


def angles_in_pieces(forward: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    """The same for a rotary embedding: positions (1, T) to cosines and sines (1, T, …)."""

    def run(hidden: Tensor, position_ids: Tensor, *others: Any) -> list[Tensor]:
        tokens = position_ids.shape[1]
        found = [forward(hidden, piece, *others) for piece in pieces(position_ids)]
        return [torch.cat(parts, 1)[:, :tokens] for parts in zip(*found, strict=True)]

    return run


def pieces(tokens: Tensor) -> tuple[Tensor, ...]:
    """``ROWS`` tokens each of (1, T, …), the last with zeros at its end."""
    missing = -tokens.shape[1] % ROWS
    whole = torch.cat([tokens, tokens.new_zeros(1, missing, *tokens.shape[2:])], 1)
    return torch.split(whole, ROWS, 1)


def in_chunks(packed: Packed, heads: int, device: torch.device) -> Layout:
    """Every ``CHUNK`` tokens of a node by themselves, counted from the sequence's first token: what
    they see has a size that depends on nothing else.

    A chunk that begins in an ancestor, or would end behind the node, is filled up with tokens whose
    outputs nobody reads.
    """
    order = torch.empty(len(packed.ids) - packed.held, heads, dtype=torch.long)
    places = torch.arange(CHUNK)[:, None] + torch.arange(heads) * CHUNK
    groups: list[Siblings] = []
    for index, node in enumerate(packed.nodes):
        if node.start < packed.held:
            continue
        path = torch.tensor(above(packed, index))
        for start in range(node.first_position // CHUNK * CHUNK, len(path), CHUNK):
            seen = path[: start + CHUNK]
            skipped = max(0, node.first_position - start)
            own = slice(skipped, len(seen) - start)
            order[seen[start:][own] - packed.held] = len(groups) * CHUNK * heads + places[own]
            seen = torch.cat([seen, seen[-1:].expand(start + CHUNK - len(seen))])
            asked = (seen[start:] - packed.held).clamp(min=0)
            groups.append(Siblings(*(rows(x[None], heads, device) for x in (asked, seen))))
    return Layout(groups, order.to(device))


AttentionInterface.register(NAME, partial(packed_attention, lay_out=in_chunks))
