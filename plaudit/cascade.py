"""Attention over a packed row in few calls, for scoring on a CPU.

A node's attention is that over its own past and that over each of its ancestors, merged by their
log-sum-exp (as in cascade attention, flashinfer.ai/2024/02/02/cascade-inference.html). So nodes of
similar length go into one causal call, whatever their prompts, and all descendants of a node meet
its keys in one call without a mask. Letters: H query heads, K key heads, G = H / K, T tokens of the
row, B nodes of at most L tokens, D width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.packing import Packed

flash_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

# Nodes go into one call if the shortest has at least this part of the longest's tokens.
ALIKE = 0.75


@dataclass(frozen=True)
class Cascade:
    """Row positions: ``own`` (B, L) of nodes of similar length, each padded at its end with its
    last token; ``real`` says which entries (b, l) are no padding; ``shared`` pairs queries with the
    keys that they all see."""

    own: list[Tensor]
    real: list[tuple[Tensor, ...]]
    shared: list[tuple[slice, slice]]

    @classmethod
    def of(cls, packed: Packed) -> "Cascade":
        own, real = [], []
        for group in _alike([(node.start, node.stop) for node in packed.nodes]):
            starts, stops = torch.tensor(group).T
            steps = torch.arange(int((stops - starts).max()))
            positions = starts[:, None] + steps
            real.append(torch.nonzero(positions < stops[:, None], as_tuple=True))
            own.append(positions.minimum(stops[:, None] - 1))
        shared = [
            (slice(node.stop, reach), slice(node.start, node.stop))
            for node, reach in zip(packed.nodes, packed.reaches(), strict=True)
            if reach > node.stop
        ]
        return cls(own, real, shared)


def _alike(spans: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Spans grouped by length, longest first."""
    groups: list[list[tuple[int, int]]] = []
    longest = 0.0
    for start, stop in sorted(spans, key=lambda span: span[0] - span[1]):
        if not groups or stop - start < ALIKE * longest:
            groups.append([])
            longest = stop - start
        groups[-1].append((start, stop))
    return groups


def cascade_attention(
    query: Tensor, key: Tensor, value: Tensor, cascade: Cascade, scaling: float
) -> Tensor:
    """Queries (1, H, T, D), keys and values (1, K, T, D) to outputs (1, T, H, D)."""
    queries, keys, values = (x[0].transpose(0, 1) for x in (query, key, value))
    # In fp32: a part is merged for each ancestor, and each merge would round again.
    output = torch.empty(queries.shape)
    weight = torch.empty(queries.shape[:2])
    for positions, real in zip(cascade.own, cascade.real, strict=True):
        q, k, v = (x[positions].transpose(1, 2) for x in (queries, keys, values))
        found, lse = flash_attention(q, k, v, 0.0, True, scale=scaling)
        where = positions[real]
        output[where] = found.transpose(1, 2)[real].float()
        weight[where] = lse.transpose(1, 2)[real]
    for at, seen in cascade.shared:
        found, lse = _unmasked(queries[at], keys[seen], values[seen], scaling)
        _merge(output[at], weight[at], found, lse)
    return output.to(query.dtype)[None]


def _unmasked(
    queries: Tensor, keys: Tensor, values: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """Outputs (T, H, D) and log-sum-exp (T, H) of queries (T, H, D) that see all the keys.

    Without a mask rows need no order: the G query heads of one key head are G T rows of it.
    """
    tokens, heads, width = queries.shape
    groups = heads // keys.shape[1]
    rows = queries.view(tokens, -1, groups, width).transpose(0, 1).flatten(1, 2)
    found, lse = flash_attention(
        rows[None],
        keys.transpose(0, 1)[None],
        values.transpose(0, 1)[None],
        0.0,
        False,
        scale=scaling,
    )
    found = found[0].reshape(-1, tokens, groups, width).transpose(0, 1).flatten(1, 2)
    lse = lse[0].reshape(-1, tokens, groups).transpose(0, 1).flatten(1, 2)
    return found, lse


def _merge(output: Tensor, weight: Tensor, found: Tensor, lse: Tensor) -> None:
    """Join two partial attentions in place, each by its part of the exponentials' sum."""
    output.lerp_(found.float(), torch.sigmoid(lse - weight)[:, :, None])
    torch.logaddexp(weight, lse, out=weight)
