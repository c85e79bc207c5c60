"""int8 weights: what they give, where they are refused, and what else still holds with them."""

import weakref
from pathlib import Path

import pytest
import torch
from architectures import PACKED, PADDED, SEQUENCES, build, one_at_a_time
from torch import nn
from torch.nn import functional

from plaudit import int8
from plaudit.batch import PackedBatch
from plaudit.checkpoint import CheckpointError
from plaudit.deterministic import make_deterministic
from plaudit.forward import scores
from plaudit.int8 import Int8Linear, quantise
from plaudit.joint_model import Asked, join
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import RewardModel

INT8 = [name for name, config in PACKED.items() if config.model_type in int8.ARCHITECTURES]


def by_hand(linear: nn.Linear, tokens: torch.Tensor) -> torch.Tensor:
    """Each row of weights to the nearest of 255 steps; the product in fp64."""
    weight = linear.weight.detach().double()
    step = weight.abs().amax(-1, keepdim=True) / 127
    bias = None if linear.bias is None else linear.bias.double()
    rows = (weight / step).round().nan_to_num() * step
    return functional.linear(tokens.double(), rows, bias).to(tokens.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_gives_what_the_rounding_by_hand_gives(dtype, bias):
    torch.manual_seed(0)
    linear = nn.Linear(48, 40, bias=bias, dtype=dtype)
    given = torch.randn(1, 300, 48, dtype=dtype)
    with torch.inference_mode():
        found = Int8Linear(linear)(given)
        # bf16 rounds each weight and the sum.
        exact = {"rtol": 2**-7, "atol": 5e-3} if dtype == torch.bfloat16 else {}
        torch.testing.assert_close(found, by_hand(linear, given), **exact)
        assert found.shape == (1, 300, 40)
        assert 0 < (found - linear(given)).abs().max() < 0.05


def test_rows_of_zeros_give_zero_and_what_is_no_number_stays_none():
    linear = nn.Linear(8, 8, bias=False)
    linear.weight.data[3] = 0
    given = torch.zeros(3, 8)
    given[1] = torch.nan
    given[2, 5] = torch.inf
    with torch.inference_mode():
        found = Int8Linear(linear)(given)
    assert found[0].tolist() == [0] * 8
    assert not found[1].isfinite().any()
    assert not found[2].isfinite().any()


@pytest.mark.parametrize("name", INT8)
def test_a_packed_model_scores_as_one_whose_layers_are_rounded_by_hand(name, monkeypatch):
    plain, ours = build(PACKED[name]), build(PACKED[name])
    quantise(ours)
    for module in plain.base_model.modules():
        if isinstance(module, nn.Linear):
            monkeypatch.setattr(module, "forward", lambda x, of=module: by_hand(of, x))
    with torch.inference_mode():
        expected = one_at_a_time(plain)
        found = scores(ours, PackedBatch.of(SEQUENCES, ours.device))
    # A weight that lies between two steps may fall to the other one.
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-3)


def test_head_norms_and_embeddings_are_untouched_and_layers_hold_a_byte_for_each_weight():
    plain, ours = build(PACKED["llama"]), build(PACKED["llama"])
    quantise(ours)
    before, after = plain.state_dict(), ours.state_dict()
    left = {name for name in after if after[name].dtype != torch.int8}
    assert {n for n in left if "proj" in n} == {n for n in after if n.endswith(".scales")}
    assert {"score.weight", "model.embed_tokens.weight", "model.norm.weight"} <= left
    assert all(torch.equal(before[name], after[name]) for name in left if "proj" not in name)
    assert {n for n in after if "_proj.weight" in n} == {n for n in before if "_proj.weight" in n}
    assert all(after[n].dtype == torch.int8 for n in after if "_proj.weight" in n)


@pytest.mark.parametrize("config", [PACKED["gpt2"], *PADDED.values()], ids=lambda c: c.model_type)
def test_models_not_proven_are_refused(config):
    with pytest.raises(CheckpointError, match=r"int8 weights are proven for .*--dtype bfloat16"):
        quantise(build(config))


def test_the_former_weights_are_let_go_layer_by_layer(monkeypatch):
    model = build(PACKED["llama"])
    former = [weakref.ref(m) for m in model.base_model.modules() if isinstance(m, nn.Linear)]
    alive: list[int] = []

    class Counted(Int8Linear):
        def __init__(self, linear: nn.Linear):
            alive.append(sum(one() is not None for one in former))
            super().__init__(linear)

    monkeypatch.setattr(int8, "Int8Linear", Counted)
    quantise(model)
    assert alive == list(range(len(former), 0, -1))


def test_no_bit_depends_on_the_neighbours_in_deterministic_mode():
    model = build(PACKED["llama"]).to(torch.bfloat16)
    quantise(model)
    make_deterministic(model)

    def score(some) -> list[float]:
        with torch.inference_mode():
            return scores(model, PackedBatch.of(some, model.device)).tolist()

    alone = [score([one])[0] for one in SEQUENCES]
    assert score(SEQUENCES) == alone
    assert score(SEQUENCES[::2]) == alone[::2]


@pytest.fixture
def joined(members, retrained_top, tmp_path):
    """Two members that share their lowest block, and each once more to be asked by itself."""
    paths = [members[0], retrained_top(tmp_path / "other", members[0])]
    return [deterministic(path) for path in paths], [deterministic(path) for path in paths]


def deterministic(path: Path) -> RewardModel:
    """So that scores of other batches are the same, and not only alike."""
    model = RewardModel.load(path, "cpu", "int8")
    model.make_deterministic()
    return model


def test_members_share_blocks_of_int8_and_score_as_they_do_apart(joined):
    models, others = joined
    apart = [other.score_all(SEQUENCES).tolist() for other in others]
    (joint,) = join(models, PrefixCache(2**22))
    assert joint.shared_blocks == 1
    first, second = (model.classifier.base_model.layers[0] for model in joint.members)
    assert first is second
    asked = [Asked(member, ids) for member in (0, 1) for ids in SEQUENCES]
    for _ in range(2):  # the second time with what the first has left of prefixes
        assert joint.score_all(asked).reshape(2, -1).tolist() == apart


def test_members_that_share_no_block_hold_equal_int8_tensors_once(members):
    models = [RewardModel.load(members[0], "cpu", "int8") for _ in range(2)]
    models[1].classifier.base_model.embed_tokens.weight.data += 1
    assert len(join(models)) == 2
    one, other = (m.classifier.base_model.layers[0].mlp.up_proj for m in models)
    assert one.weight.data_ptr() == other.weight.data_ptr()
    assert one.scales.data_ptr() == other.scales.data_ptr()


def test_a_checkpoint_in_int8_keeps_its_probes(members):
    model = RewardModel.load(members[0], "cpu", "int8")
    (joint,) = join([model])
    joint.verify_probes("int8")
