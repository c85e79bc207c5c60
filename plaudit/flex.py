"""Attention over a packed row by torch's FlexAttention: one compiled kernel for all of its nodes.

For GPUs, where the batched products of plaudit/attention.py are many small kernels. A token sees
another if that stands in a node above its own, or in its own, and not after it. Blocks of keys that
no query of a block sees are skipped (Dong et al., "Flex Attention", arXiv:2412.05496).

It scores; a gradient takes the batched products. torch compiles the kernel for its first row, for
rows of any length at the next, and a few times more: rows of at most one block, rows behind held
tokens, other windows.

Letters: H query heads, K key heads, T tokens of the row, D width of a head.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.nn.functional import pad
from transformers import AttentionInterface
from transformers.integrations.flex_attention import flex_attention_forward

from plaudit.attention import Plan, by_tokens
from plaudit.packing import Packed

NAME = "plaudit_flex"
# Tokens that a mask's tables have room for, at least. A kernel is compiled for their size.
ROOM = 2**14


def flex_attention(  # noqa: PLR0913  the interface of Transformers
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plan: Plan,
    sliding_window: int | None = None,
    **rule: Any,
) -> tuple[Tensor, Tensor | None]:
    """Queries (1, H, T, D), keys and values (1, K, T, D) to outputs (1, T, H, D)."""
    if plan.memory is not None:
        heads = key.shape[1]
        rows = plan.memory.extend(by_tokens(key, heads), by_tokens(value, heads), heads)
        key, value = (x.view(1, -1, heads, key.shape[3]).transpose(1, 2) for x in rows)
    seen = plan.once(visible, sliding_window)
    output: tuple[Tensor, Tensor | None] = flex_attention_forward(
        module, query, key, value, seen, **rule
    )
    return output


def visible(packed: Packed, window: int | None, device: torch.device) -> BlockMask:
    """Which keys of the whole row each computed token sees: of its own past, and nothing ``window``
    or more positions back."""
    keys = len(packed.ids)
    mask = sees(packed, window, device)
    return create_block_mask(mask, None, None, keys - packed.held, keys, device)


def sees(
    packed: Packed, window: int | None, device: torch.device
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Of a query's and a key's place. A node is above another if that is entered, on a walk through
    the tree that visits a node before those below it, after it and before it is left."""
    lengths = torch.tensor([node.stop - node.start for node in packed.nodes])
    enters, leaves = (torch.tensor(times).repeat_interleave(lengths) for times in walk(packed))
    first = torch.tensor(packed.positions())
    beyond = first + (window if window is not None else len(packed.ids))
    room = max(ROOM, 2 ** (len(packed.ids) - 1).bit_length()) - len(packed.ids)
    enters, leaves, first, beyond = (
        pad(x, (0, room)).to(device, torch.int32) for x in (enters, leaves, first, beyond)
    )
    held = torch.tensor(packed.held, device=device)

    def mask(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        entered, position = enters[query + held], first[query + held]
        above = (enters[key] <= entered) & (entered < leaves[key])
        return above & (first[key] <= position) & (position < beyond[key])

    return mask


def walk(packed: Packed) -> tuple[list[int], list[int]]:
    """When each node is entered, and how many have been entered when it is left."""
    sizes = [1] * len(packed.nodes)
    for index in reversed(range(len(sizes))):  # a node stands before its descendants
        parent = packed.nodes[index].parent
        if parent >= 0:
            sizes[parent] += sizes[index]
    enters, below = [], {-1: 0}  # when the next child of each node is entered
    for index, (node, size) in enumerate(zip(packed.nodes, sizes, strict=True)):
        enters.append(below[node.parent])
        below[node.parent] += size
        below[index] = enters[index] + 1
    return enters, [time + size for time, size in zip(enters, sizes, strict=True)]


AttentionInterface.register(NAME, flex_attention)
