"""What attention over a packed row has to give, token by token."""

import torch
from torch import Tensor

from plaudit.packing import Packed


def one_token_at_a_time(  # noqa: PLR0913
    query, key, value, packed, scaling, window=None, cap=None
) -> Tensor:
    """Softmax over the positions that a token sees, by walking from its node to the root; fp64."""
    groups = query.shape[1] // key.shape[1]
    output = torch.empty_like(query, dtype=torch.float64)
    for index, node in enumerate(packed.nodes):
        path = [i for a in packed.ancestors(index) for i in range(*span(packed, a))]
        for at in range(node.start, node.stop):
            seen = [*path, *range(node.start, at + 1)]
            seen = seen[-window:] if window else seen
            for head in range(query.shape[1]):
                keys, values = (x[0, head // groups, seen].double() for x in (key, value))
                logits = keys @ query[0, head, at].double() * scaling
                logits = cap * torch.tanh(logits / cap) if cap else logits
                output[0, head, at] = logits.softmax(0) @ values
    return output.transpose(1, 2)


def span(packed: Packed, index: int) -> tuple[int, int]:
    return packed.nodes[index].start, packed.nodes[index].stop


def random(packed: Packed, heads: tuple[int, int], width: int = 16) -> list[Tensor]:
    """Queries, keys and values."""
    generator = torch.Generator().manual_seed(len(packed.ids))
    shapes = [(1, count, len(packed.ids), width) for count in (heads[0], heads[1], heads[1])]
    return [torch.randn(shape, generator=generator) for shape in shapes]
