"""In deterministic mode a score is the same, to the last bit, whatever else is in a forward."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from architectures import PACKED, PADDED, SEQUENCES, build, one_at_a_time
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from plaudit import invariance
from plaudit.batch import PackedBatch
from plaudit.checkpoint import CheckpointError, describe_plain
from plaudit.conversation import Encoder
from plaudit.deterministic import is_leaf, make_deterministic
from plaudit.forward import scores
from plaudit.joint_model import JointModel
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import RewardModel

DTYPES = [torch.float32, torch.bfloat16]


def score(model, sequences) -> list[float]:
    with torch.inference_mode():
        return scores(model, PackedBatch.of(sequences, model.device)).tolist()


@pytest.mark.parametrize("name", PACKED)
def test_scores_equal_plain_transformers(name):
    plain, ours = build(PACKED[name]), build(PACKED[name])
    make_deterministic(ours)
    with torch.inference_mode():
        expected = one_at_a_time(plain).tolist()
    assert score(ours, SEQUENCES) == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module", params=[(n, d) for n in PACKED for d in DTYPES], ids=str)
def alone(request):
    """A model, and the score of each sequence by itself."""
    name, dtype = request.param
    model = build(PACKED[name]).to(dtype)
    make_deterministic(model)
    return model, [score(model, [sequence])[0] for sequence in SEQUENCES]


@settings(max_examples=15, deadline=None)
@given(call=st.lists(st.sampled_from(range(len(SEQUENCES))), min_size=1, max_size=30))
def test_no_bit_depends_on_the_neighbours(alone, call):
    model, expected = alone
    assert score(model, [SEQUENCES[i] for i in call]) == [expected[i] for i in call]


@settings(max_examples=10, deadline=None)
@given(calls=st.lists(st.lists(st.sampled_from(range(len(SEQUENCES))), min_size=1), max_size=5))
def test_nor_on_what_is_known_from_before(alone, calls):
    model, expected = alone
    prefixes = PrefixCache(2**20)
    for call in calls:
        recalled = prefixes.recall("model", [SEQUENCES[i] for i in call], 512, model.device)
        batch = PackedBatch.planned(recalled.packed, model.device, recalled.memory)
        with torch.inference_mode():
            assert scores(model, batch).tolist() == [expected[i] for i in call]
        prefixes.keep(recalled)


def wide(dtype: torch.dtype):
    """A model of a real one's widths: products large enough for several threads and kernels."""
    config = deepcopy(PACKED["llama"])
    config.update({"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9})
    config.update({"num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 1024})
    return build(config).to(dtype)


def rollouts() -> list[list[int]]:
    """Responses that leave one prompt at 16 places; together they fill several pieces."""
    draw = torch.Generator().manual_seed(0)
    prompt = torch.randint(3, 96, (150,), generator=draw).tolist()
    return [
        [*prompt[: 10 * i], *torch.randint(3, 96, (7 * i + 1,), generator=draw).tolist()]
        for i in range(16)
    ]


def shapes_given(name: str, call: list[list[int]]) -> set[tuple[str, tuple[int, ...]]]:
    """What each module that sums is given in one forward."""
    model = build(PACKED[name])
    found = set()

    def watched(at, forward):
        def run(given):
            found.add((at, tuple(given.shape)))
            return forward(given)

        return run

    for at, module in model.base_model.named_modules():
        if is_leaf(module) and not at.endswith("rotary_emb"):
            module.forward = watched(at, module.forward)
    make_deterministic(model)
    score(model, call)
    return found


@pytest.mark.parametrize("name", PACKED)
def test_shapes_do_not_depend_on_the_company(name):
    assert shapes_given(name, SEQUENCES[:1]) == shapes_given(name, SEQUENCES)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_at_the_widths_of_a_real_model(dtype):
    model = wide(dtype)
    make_deterministic(model)
    expected = [score(model, [sequence])[0] for sequence in rollouts()]
    assert score(model, rollouts()) == expected
    assert score(model, rollouts()[::-3]) == expected[::-3]


def member(directory: Path, model: PreTrainedModel) -> RewardModel:
    manifest, revision = describe_plain(directory, 512)
    return RewardModel(model, Encoder.load(directory, 512), manifest, revision)


@pytest.fixture
def wide_member(tiny_checkpoint: Path) -> RewardModel:
    return member(tiny_checkpoint, wide(torch.float32))


def test_the_machine_is_tried(wide_member):
    wide_member.make_deterministic()
    invariance.verify(JointModel(wide_member))
    invariance.verify(JointModel(wide_member, PrefixCache(2**24)))


@pytest.mark.parametrize("prefixes", [None, PrefixCache(2**24)])
def test_a_module_that_minds_its_company_is_found(wide_member, prefixes):
    """A norm that adds a little for each token beside it, as no kernel says that it does."""
    wide_member.make_deterministic()
    norm = wide_member.classifier.base_model.norm
    forward = norm.forward
    norm.forward = lambda hidden: forward(hidden) + 1e-4 * hidden.shape[1]
    with pytest.raises(CheckpointError, match="with its neighbours"):
        invariance.verify(JointModel(wide_member, prefixes))


def test_a_padded_model_is_refused(tiny_checkpoint):
    model = member(tiny_checkpoint, build(PADDED["bert"]))
    with pytest.raises(CheckpointError, match="bert models run in padded batches"):
        model.make_deterministic()
