"""Attention of siblings in batched products equals attention token by token."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from token_by_token import one_token_at_a_time, random, span
from torch import Tensor, nn

from plaudit import attention, siblings
from plaudit.attention import Plan, packed_attention
from plaudit.packing import Packed, pack
from plaudit.siblings import lay_out

CPU = torch.device("cpu")
tokens = st.lists(st.integers(0, 2), max_size=12)
sequences = st.lists(tokens.filter(bool), min_size=1, max_size=12)
heads = st.sampled_from([(4, 4), (6, 2), (3, 1)])
windows = st.sampled_from([None, 1, 3, 7])
caps = st.sampled_from([None, 2.0])


def attend(tensors, packed: Packed, scaling: float, **rule) -> Tensor:
    plan = Plan(packed, CPU)
    return packed_attention(nn.Module(), *tensors, None, plan=plan, scaling=scaling, **rule)[0]


@settings(max_examples=60, deadline=None)
@given(sequences, st.integers(1, 5), heads, windows, caps, st.integers(1, 4))
def test_equals_attention_token_by_token(found, least, heads, window, cap, queries):
    packed = pack(found, least)
    tensors = random(packed, heads)
    expected = one_token_at_a_time(*tensors, packed, 0.3, window, cap)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(attention, "QUERIES", queries)
        patch.setattr(siblings, "QUERIES", queries)
        ours = attend(tensors, packed, 0.3, sliding_window=window, softcap=cap)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(sequences, heads, windows, caps, st.sampled_from([0, attention.KEPT]))
def test_gradients_equal_those_of_attention_token_by_token(found, heads, window, cap, kept):
    packed = pack(found, 1)
    tensors = [x.requires_grad_() for x in random(packed, heads)]
    expected = one_token_at_a_time(*tensors, packed, 0.3, window, cap)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "KEPT", kept)
        ours = attend(tensors, packed, 0.3, sliding_window=window, softcap=cap)
        gradients = torch.autograd.grad((ours * weight).sum(), tensors)
    for found, right in zip(
        gradients, torch.autograd.grad((expected * weight).sum(), tensors), strict=True
    ):
        torch.testing.assert_close(found, right, rtol=0, atol=1e-5)


def test_large_logits_do_not_overflow():
    packed = pack([[1, 2, 3, 4], [1, 2, 5, 6]], 1)
    tensors = [x * 30 for x in random(packed, (1, 1))]
    expected = one_token_at_a_time(*tensors, packed, 1.0)
    torch.testing.assert_close(
        attend(tensors, packed, 1.0).double(), expected, rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("depth", [1, 4, 16])
def test_in_bf16_it_is_as_exact_as_transformers_eager_attention(depth):
    """Both round the logits to bf16; against the same inputs in fp64."""
    history = [i for i in range(depth) for _ in range(8)]
    packed = pack([[*history[: 8 * i], 50, 51, 52, 53] for i in range(1, depth + 1)], 1)
    tensors = [x.bfloat16() for x in random(packed, (4, 4), 32)]
    exact = one_token_at_a_time(*tensors, packed, 0.2)
    errors = [
        (found.double() - exact).square().mean().sqrt()
        for found in (attend(tensors, packed, 0.2), eager(*tensors, packed, 0.2))
    ]
    assert errors[0] <= 1.25 * errors[1]


def eager(query, key, value, packed, scaling) -> Tensor:
    """As ``eager_attention_forward`` of Transformers' Llama, under a mask of the whole row."""
    mask = torch.full((len(packed.ids),) * 2, -torch.inf)
    for index, node in enumerate(packed.nodes):
        for a in packed.ancestors(index):
            mask[node.start : node.stop, slice(*span(packed, a))] = 0
        size = node.stop - node.start
        own = torch.full((size, size), -torch.inf).triu(1)
        mask[node.start : node.stop, node.start : node.stop] = own
    logits = query @ key.transpose(2, 3) * scaling + mask.to(query.dtype)
    weights = torch.softmax(logits, -1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2)


@settings(max_examples=60, deadline=None)
@given(sequences, st.integers(1, 5), st.integers(1, 3), st.integers(1, 4))
def test_every_row_has_one_place_in_the_outputs(found, least, heads, queries):
    packed = pack(found, least)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(siblings, "QUERIES", queries)
        layout = lay_out(packed, heads, CPU)
    assert sum(group.own.numel() for group in layout.groups) > layout.order.max()
    assert layout.order.unique().numel() == len(packed.ids) * heads


def test_siblings_are_taken_together_as_far_as_their_weights_are_few():
    packed = pack([[*range(100), i, *range(100)] for i in range(1000, 1064)])
    (root, *groups) = lay_out(packed, 1, CPU).groups
    assert root.own.shape == (1, 1, 100)
    assert len(groups) > 1
    for group in groups:
        nodes, _, length = group.own.shape
        assert nodes * length * group.seen.shape[2] <= siblings.WEIGHTS
