"""Which tokens of a packed row go through attention together.

Nodes of one parent see the same before them; those of like length make a group.

Letters: K key heads, T tokens of the row, B nodes of at most L tokens, P tokens of their ancestors.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.packing import Node, Packed

# Nodes go together if the shortest has at least this part of the longest's tokens.
ALIKE = 0.75
# Queries of a node that are taken at a time.
QUERIES = 128
# Attention weights of one head that nodes taken together may have: few enough to stay in cache.
WEIGHTS = 2**17


@dataclass(frozen=True)
class Siblings:
    """Nodes of one parent, each padded at its end with its last token: the rows of the key heads of
    their ``own`` tokens (B, K, L), and of all that they have ``seen`` after them (B, K, P + L)."""

    own: Tensor
    seen: Tensor


@dataclass(frozen=True)
class Layout:
    """Rows are those of (T K, ...): token by token, the key heads of each. Keys begin with those of
    the plan's held tokens; the ``own`` rows and ``order`` are of the computed ones, without them.

    ``order`` (T, K) is where each row stands in the outputs of all groups, laid end to end: a piece
    of ``QUERIES`` tokens of all nodes and heads after the other, (B, K, Q).
    """

    groups: list[Siblings]
    order: Tensor


def lay_out(packed: Packed, heads: int, device: torch.device) -> Layout:
    """Siblings of like length go together."""
    order = torch.empty(len(packed.ids) - packed.held, heads, dtype=torch.long)
    groups, laid = [], 0
    for parent, nodes in _families(packed).items():
        before = torch.tensor(above(packed, parent), dtype=torch.long)
        for group in _alike(nodes, len(before)):
            starts, stops = torch.tensor([(node.start, node.stop) for node in group]).T
            own = starts[:, None] + torch.arange(int((stops - starts).max()))
            real = own < stops[:, None]
            order[own[real] - packed.held] = (laid + _places(len(own), own.shape[1], heads))[real]
            laid += own.numel() * heads
            own = own.minimum(stops[:, None] - 1)
            seen = torch.cat([before.expand(len(own), -1), own], 1)
            groups.append(
                Siblings(rows(own - packed.held, heads, device), rows(seen, heads, device))
            )
    return Layout(groups, order.to(device))


def rows(tokens: Tensor, heads: int, device: torch.device) -> Tensor:
    """The rows (B, K, T) of the key heads of tokens (B, T)."""
    found = tokens[:, None] * heads + torch.arange(heads)[:, None]
    return found.to(device, torch.int32)


def _families(packed: Packed) -> dict[int, list[Node]]:
    """The computed nodes of each parent."""
    found = defaultdict(list)
    for node in packed.nodes:
        if node.start >= packed.held:
            found[node.parent].append(node)
    return found


def above(packed: Packed, parent: int) -> list[int]:
    """Positions of all tokens that the children of ``parent`` see, first to last."""
    if parent < 0:
        return []
    spans = (packed.nodes[i] for i in (*packed.ancestors(parent), parent))
    return [position for node in spans for position in range(node.start, node.stop)]


def _alike(nodes: Sequence[Node], before: int) -> list[list[Node]]:
    """Siblings grouped by length, longest first."""
    groups: list[list[Node]] = []
    longest = most = 0
    for node in sorted(nodes, key=lambda node: node.start - node.stop):
        length = node.stop - node.start
        if not groups or length < ALIKE * longest or len(groups[-1]) == most:
            groups.append([])
            longest = length
            most = max(1, WEIGHTS // (min(length, QUERIES) * (before + length)))
        groups[-1].append(node)
    return groups


def _places(nodes: int, length: int, heads: int) -> Tensor:
    """Where each node's tokens stand in the outputs of its group: (B, L, K)."""
    token = torch.arange(length)
    start = token // QUERIES * QUERIES
    queries = (length - start).clamp(max=QUERIES)[:, None]
    row = torch.arange(nodes)[:, None, None] * heads + torch.arange(heads)
    return nodes * heads * start[:, None] + row * queries + (token - start)[:, None]
