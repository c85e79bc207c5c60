"""Merged partial attentions equal attention token by token."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from plaudit.attention import Plan, packed_attention
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
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, 1, len(packed.ids), 16, generator=generator) * 30 for _ in range(3)
    )
    with torch.inference_mode():
        found = cascade_attention(query, key, value, Cascade.of(packed), 1.0)
    expected = one_token_at_a_time(query, key, value, packed, 1.0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("depth", [1, 4, 16])
def test_in_bf16_it_is_about_as_exact_as_one_call_for_each_node(depth):
    """Against the same inputs in fp64: each merged part was rounded once, the sum is not."""
    stems = [[i] * 8 for i in range(depth)]
    history: list[int] = []
    sequences = []
    for stem in stems:
        history = [*history, *stem]
        sequences.append([*history, 50, 51, 52, 53])
    packed = pack(sequences, 1)
    generator = torch.Generator().manual_seed(1)
    tensors = [
        torch.randn(1, 4, len(packed.ids), 32, generator=generator).bfloat16() for _ in range(3)
    ]
    exact = one_token_at_a_time(*(x.double() for x in tensors), packed, 0.2)
    plan = Plan.of(packed, torch.device("cpu"))
    by_node, _ = packed_attention(nn.Module(), *tensors, None, plan=plan, scaling=0.2)
    with torch.inference_mode():
        ours = cascade_attention(*tensors, plan.cascade, 0.2)
    errors = [(found.double() - exact).square().mean().sqrt() for found in (ours, by_node)]
    assert errors[0] <= 1.5 * errors[1]


@pytest.mark.parametrize("lengths", [[5] * 8, [1, 2, 4, 8, 16], [7, 100, 99, 6]])
def test_every_token_is_computed_once(lengths):
    packed = pack([[i] * n for i, n in enumerate(lengths)])
    cascade = Cascade.of(packed)
    found = torch.cat([own[real] for own, real in zip(cascade.own, cascade.real, strict=True)])
    assert sorted(found.tolist()) == list(range(len(packed.ids)))
