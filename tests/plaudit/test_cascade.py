"""Merged partial attentions equal attention token by token."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.cascade import Cascade, cascade_attention
from plaudit.packing import pack

tokens = st.lists(st.integers(0, 2), max_size=12)
sequences = st.lists(tokens.filter(bool), min_size=1, max_size=12)


def one_token_at_a_time(query, key, value, packed, scaling) -> torch.Tensor:
    """Softmax over the positions that a token sees, by walking from its node to the root."""
    groups = query.shape[1] // key.shape[1]
    output = torch.empty_like(query)
    for index, node in enumerate(packed.nodes):
        above = [i for a in packed.ancestors(index) for i in range(*span(packed, a))]
        for at in range(node.start, node.stop):
            seen = [*above, *range(node.start, at + 1)]
            for head in range(query.shape[1]):
                keys, values = (x[0, head // groups, seen].double() for x in (key, value))
                weights = (keys @ query[0, head, at].double() * scaling).softmax(0)
                output[0, head, at] = (weights @ values).to(query.dtype)
    return output.transpose(1, 2)


def span(packed, index) -> tuple[int, int]:
    return packed.nodes[index].start, packed.nodes[index].stop


@settings(max_examples=40, deadline=None)
@given(sequences, st.integers(1, 5), st.sampled_from([(4, 4), (6, 2), (3, 1)]))
def test_equals_attention_token_by_token(found, least, heads):
    packed = pack(found, least)
    generator = torch.Generator().manual_seed(len(packed.ids))
    query, key, value = (
        torch.randn(1, h, len(packed.ids), 16, generator=generator)
        for h in (heads[0], heads[1], heads[1])
    )
    expected = one_token_at_a_time(query, key, value, packed, 0.3)
    with torch.inference_mode():
        ours = cascade_attention(query, key, value, Cascade.of(packed), 0.3)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_large_logits_do_not_overflow_the_merge():
    packed = pack([[1, 2, 3, 4], [1, 2, 5, 6]], 1)
    query, key, value = (torch.randn(1, 1, len(packed.ids), 16) * 30 for _ in range(3))
    with torch.inference_mode():
        found = cascade_attention(query, key, value, Cascade.of(packed), 1.0)
    assert found.isfinite().all()


@pytest.mark.parametrize("lengths", [[5] * 8, [1, 2, 4, 8, 16], [7, 100, 99, 6]])
def test_every_token_is_computed_once(lengths):
    packed = pack([[i] * n for i, n in enumerate(lengths)])
    cascade = Cascade.of(packed)
    found = torch.cat([own[real] for own, real in zip(cascade.own, cascade.real, strict=True)])
    assert sorted(found.tolist()) == list(range(len(packed.ids)))
