"""FlexAttention over a packed row; uncompiled, torch computes the same of the same mask."""

import shutil

import pytest
import torch
from architectures import PACKED, PADDED, SEQUENCES, build, one_at_a_time
from hypothesis import given, settings
from hypothesis import strategies as st
from token_by_token import one_token_at_a_time, random
from torch import nn

from plaudit import flex
from plaudit.attention import Plan
from plaudit.batch import PackedBatch
from plaudit.checkpoint import CheckpointError
from plaudit.forward import scores
from plaudit.packing import pack, pack_behind
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import RewardModel

CPU = torch.device("cpu")
tokens = st.lists(st.integers(0, 2), max_size=12)
sequences = st.lists(tokens.filter(bool), min_size=1, max_size=12)


uncompiled = torch.compiler.set_stance("force_eager")
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")


def build_flex(name: str):
    model = build(PACKED[name])
    model.set_attn_implementation(flex.NAME)
    return model


@settings(max_examples=60, deadline=None)
@given(
    sequences,
    st.integers(1, 5),
    st.sampled_from([(4, 4), (6, 2), (3, 1)]),
    st.sampled_from([None, 1, 3, 7]),
    st.sampled_from([None, 2.0]),
)
@uncompiled
def test_equals_attention_token_by_token(found, least, heads, window, cap):
    packed = pack(found, least)
    tensors = random(packed, heads)
    plan = Plan(packed, CPU)
    with torch.inference_mode():
        ours, _ = flex.flex_attention(
            nn.Module().eval(), *tensors, None, plan=plan, scaling=0.3, sliding_window=window,
            softcap=cap,
        )  # fmt: skip
    expected = one_token_at_a_time(*tensors, packed, 0.3, window, cap)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(sequences, st.integers(1, 5), st.sampled_from([None, 1, 3]), st.data())
def test_a_token_behind_held_ones_sees_its_own_path(found, least, window, data):
    known = [data.draw(st.integers(0, len(one) - 1)) for one in found]
    packed = pack_behind(found, known, least)
    mask = flex.sees(packed, window, CPU)
    keys = torch.arange(len(packed.ids))
    for end, nodes in zip(packed.ends, packed.walks(), strict=True):
        path = [place for node in nodes for place in range(node.start, node.stop)]
        path = path[: path.index(end) + 1]
        seen = mask(keys, keys, torch.tensor(end - packed.held), keys).nonzero().flatten().tolist()
        assert seen == sorted(path[-window:] if window else path)


@pytest.mark.parametrize("name", PACKED)
@uncompiled
def test_scores_equal_plain_transformers(name):
    plain, ours = build(PACKED[name]), build_flex(name)
    with torch.inference_mode():
        expected = one_at_a_time(plain)
        found = scores(ours, PackedBatch.of(SEQUENCES, ours.device))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PACKED)
@uncompiled
def test_scores_behind_known_prefixes_equal_plain_transformers(name):
    plain, ours = build(PACKED[name]), build_flex(name)
    prefixes, held = PrefixCache(2**20), 0
    with torch.inference_mode():
        expected = one_at_a_time(plain)
        for call in [[0, 4], [5, 1], [2, 3, 6, 7], [0, 1, 2, 3, 4, 5]]:
            recalled = prefixes.recall("model", [SEQUENCES[i] for i in call], 512, ours.device)
            batch = PackedBatch.planned(recalled.packed, ours.device, recalled.memory)
            torch.testing.assert_close(scores(ours, batch), expected[call], rtol=0, atol=1e-5)
            prefixes.keep(recalled)
            held += recalled.packed.held
    assert held > 0


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles with a C++ compiler")
def test_compiled_for_rows_of_any_length(monkeypatch):
    """Beyond its limit of compilations torch would go on uncompiled, and slowly."""
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    products, ours = build(PACKED["mistral"]), build_flex("mistral")
    longer = [[*one, *SEQUENCES[0]] for one in SEQUENCES]
    with torch.inference_mode():
        for some in (SEQUENCES[:1], SEQUENCES[:5], SEQUENCES, longer, longer[:7]):
            batch = PackedBatch.of(some, ours.device)
            expected, found = scores(products, batch), scores(ours, batch)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        prefixes = PrefixCache(2**20)
        for call in (longer[:2], longer[:7], longer):
            recalled = prefixes.recall("model", call, 512, ours.device)
            batch = PackedBatch.planned(recalled.packed, ours.device, recalled.memory)
            expected = scores(products, PackedBatch.of(call, ours.device))
            torch.testing.assert_close(scores(ours, batch), expected, rtol=0, atol=1e-5)
            prefixes.keep(recalled)


def test_a_padded_model_is_refused(tiny_checkpoint):
    whole = RewardModel.load(tiny_checkpoint, device="cpu")

    model = RewardModel(build(PADDED["bert"]), whole.encoder, whole.manifest, "0")
    with pytest.raises(CheckpointError, match="leave --attention flex out"):
        model.use_flex_attention()
