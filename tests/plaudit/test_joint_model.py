"""Members that share blocks: found by their tensors, scored as if each were alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from plaudit.checkpoint import CheckpointError, describe_plain
from plaudit.conversation import Encoder
from plaudit.joint_model import Asked, JointModel, join
from plaudit.prefix_cache import BLOCK, PrefixCache
from plaudit.reward_model import RewardModel

BLOCKS = 4
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "num_labels": 1,
}
PROMPT = list(range(3, 33))
SEQUENCES = [[*PROMPT, *range(20, 20 + i)] for i in range(1, 9)] + [[5, 6, 7]]


@pytest.fixture
def trained_above(tiny_checkpoint: Path):
    """``trained_above(kind, depth, seed)``: a member whose blocks from ``depth`` on are its own."""
    manifest, revision = describe_plain(tiny_checkpoint, 512)
    encoder = Encoder.load(tiny_checkpoint, 512)

    def make(kind: type, depth: int, seed: int) -> RewardModel:
        torch.manual_seed(0)
        config = kind(vocab_size=len(encoder.tokenizer), **SIZES)
        model = AutoModelForSequenceClassification.from_config(config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for part in (*model.base_model.layers[depth:], model.base_model.norm, model.score):
                for weight in part.parameters():
                    weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
        return RewardModel(model, encoder, manifest, revision)

    return make


def asked_of(members: int) -> list[Asked]:
    return [Asked(member, ids) for ids in SEQUENCES for member in range(members)]


@pytest.mark.parametrize("kind", [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config])
@pytest.mark.parametrize("depth", [1, 3, BLOCKS])
def test_joint_scores_are_those_of_each_member_alone(trained_above, kind, depth):
    alone = [trained_above(kind, depth, seed).score(SEQUENCES) for seed in range(3)]
    (joint,) = join(trained_above(kind, depth, seed) for seed in range(3))
    assert joint.shared_blocks == depth
    found = joint.score_all(asked_of(3)).reshape(-1, 3).T
    np.testing.assert_array_equal(found, np.stack(alone))
    assert not np.allclose(found[0], found[1])


def test_shared_blocks_stand_in_memory_once(trained_above):
    (joint,) = join(trained_above(LlamaConfig, 3, seed) for seed in range(3))
    first, *others = (member.classifier.base_model for member in joint.members)
    for other in others:
        assert other.embed_tokens.weight is first.embed_tokens.weight
        assert [a is b for a, b in zip(other.layers, first.layers, strict=True)] == [
            True, True, True, False,
        ]  # fmt: skip


def test_a_member_that_gave_up_its_blocks_scores_alone_as_before(trained_above):
    before = trained_above(LlamaConfig, 2, 1).score(SEQUENCES)
    (joint,) = join(trained_above(LlamaConfig, 2, seed) for seed in range(2))
    np.testing.assert_array_equal(joint.score_all([Asked(1, ids) for ids in SEQUENCES]), before)
    np.testing.assert_array_equal(joint.members[1].score(SEQUENCES), before)


def test_one_changed_number_in_the_lowest_block_parts_two_members(trained_above):
    one, other = trained_above(LlamaConfig, 3, 0), trained_above(LlamaConfig, 3, 0)
    with torch.no_grad():
        other.classifier.base_model.layers[0].mlp.up_proj.weight[3, 5] += 1e-3
    assert [len(joint.members) for joint in join([one, other])] == [1, 1]


def test_equal_tensors_under_another_computation_are_not_shared(trained_above):
    one, other = trained_above(LlamaConfig, 3, 0), trained_above(LlamaConfig, 3, 1)
    other.classifier.config.rms_norm_eps = 1e-3
    assert not JointModel(one).adopt(other)


def test_a_member_that_shares_less_does_not_cost_the_others_their_share(trained_above):
    joints = join(trained_above(LlamaConfig, depth, seed) for seed, depth in enumerate((3, 3, 1)))
    assert [(len(j.members), j.shared_blocks) for j in joints] == [(2, 3), (1, 0)]


def test_padded_models_are_scored_apart(save_plain, tokenizer, tmp_path):
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, num_labels=1, pad_token_id=0,
    )  # fmt: skip
    plain = save_plain(tmp_path / "plain", tokenizer, 0)
    manifest, revision = describe_plain(plain, 512)
    model = AutoModelForSequenceClassification.from_config(config)
    encoder = Encoder.load(plain, 512)
    twins = [RewardModel(model, encoder, manifest, revision) for _ in range(2)]
    assert [len(joint.members) for joint in join(twins)] == [1, 1]


def test_equal_tensors_of_members_apart_stand_in_memory_once(trained_above):
    """As of members whose base was adapted in all blocks, but not in its embeddings."""
    alone = [trained_above(LlamaConfig, 0, seed).score(SEQUENCES) for seed in range(3)]
    joints = join(trained_above(LlamaConfig, 0, seed) for seed in range(3))
    assert [len(joint.members) for joint in joints] == [1, 1, 1]
    models = [joint.members[0].classifier.base_model for joint in joints]
    assert len({model.embed_tokens.weight.data_ptr() for model in models}) == 1
    assert len({model.layers[0].mlp.up_proj.weight.data_ptr() for model in models}) == 3
    for joint, expected in zip(joints, alone, strict=True):
        np.testing.assert_array_equal(joint.members[0].score(SEQUENCES), expected)


def test_no_forward_computes_what_nobody_asked(trained_above):
    (joint,) = join(trained_above(LlamaConfig, 3, seed) for seed in range(2))
    asked = [Asked(0, (3, 4, 5)), Asked(0, (6, 7)), Asked(1, (6, 7)), Asked(1, (8,))]
    batches = joint.batches(asked, 64)
    assert sorted(sorted(batch) for batch in batches) == [[0], [1, 2], [3]]
    expected = [joint.score_all([one])[0] for one in asked]
    np.testing.assert_allclose(joint.score_all(asked, 64), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", [3, BLOCKS])
def test_calls_that_come_one_by_one_compute_their_prompt_once(trained_above, depth):
    alone = [trained_above(LlamaConfig, depth, seed).score(SEQUENCES) for seed in range(2)]
    prefixes = PrefixCache(2**20)
    (joint,) = join((trained_above(LlamaConfig, depth, seed) for seed in range(2)), prefixes)
    times = 2 - depth / BLOCKS
    for place, ids in enumerate(SEQUENCES[:-1]):  # each is the one before and a token
        known = (len(ids) - 1) // BLOCK * BLOCK if place else 0
        found = joint.compute([Asked(0, ids), Asked(1, ids)])
        np.testing.assert_allclose(
            found.scores, [scores[place] for scores in alone], rtol=0, atol=1e-5
        )
        assert found.tokens == round((len(ids) - known) * times)


def test_what_some_members_made_is_not_taken_for_that_of_others(trained_above):
    alone = [trained_above(LlamaConfig, 2, seed).score(SEQUENCES) for seed in range(3)]
    (joint,) = join((trained_above(LlamaConfig, 2, seed) for seed in range(3)), PrefixCache(2**20))
    for members in ((0,), (1,), (2, 0), (0, 1, 2), (1, 2)):
        asked = [Asked(member, ids) for member in members for ids in SEQUENCES]
        expected = np.concatenate([alone[member] for member in members])
        np.testing.assert_allclose(joint.score_all(asked), expected, rtol=0, atol=1e-5)


def test_shared_blocks_are_counted_once(trained_above):
    (joint,) = join(trained_above(LlamaConfig, 3, seed) for seed in range(3))
    asked = [Asked(member, PROMPT) for member in range(3)]
    # 3 of 4 blocks once, the last for each of three members.
    assert joint.compute(asked).tokens == round(len(PROMPT) * (3 + 3 * 1) / 4)
    assert joint.compute(asked[:1]).tokens == len(PROMPT)


def test_nothing_asked_is_nothing_scored(trained_above):
    assert len(JointModel(trained_above(LlamaConfig, 3, 0)).score_all([])) == 0


def test_probes_are_verified_as_they_are_served(tmp_path, tiny_checkpoint, retrained_top):
    paths = [tiny_checkpoint, retrained_top(tmp_path / "top", tiny_checkpoint)]
    (joint,) = join(RewardModel.load(path, device="cpu") for path in paths)
    joint.verify_probes("float32")
    with torch.no_grad():
        joint.members[1].classifier.base_model.layers[-1].mlp.up_proj.weight.mul_(1.5)
    with pytest.raises(CheckpointError, match=r"probes\[\d+\]\.score"):
        joint.verify_probes("float32")
