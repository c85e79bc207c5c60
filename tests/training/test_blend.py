"""Averages in memory score what the saved average scores, to the bit, in every kind of model."""

from copy import deepcopy

import msgspec
import numpy as np
import pytest
import torch
from architectures import PACKED, PADDED, build
from safetensors.torch import load_file, save_file

from plaudit import checkpoint
from plaudit.checkpoint import CheckpointError
from plaudit.reward_model import RewardModel
from training.average import average
from training.blend import Blend
from training.measure import Measured, score_pairs
from training.precision import measuring_dtype
from training.sides import Sides


@pytest.fixture(scope="module")
def manifest(trained_members):
    return checkpoint.read(trained_members[0])[0]


@pytest.fixture(scope="module")
def pairs(trained_members, manifest):
    return Sides.of(trained_members[0], manifest, None, None).reference


def same(one: Measured, other: Measured) -> bool:
    return np.array_equal(one.chosen, other.chosen) and np.array_equal(one.rejected, other.rejected)


def saved(directories, coefficients, manifest, pairs, out) -> Measured:
    """Scores of the average that is written."""
    for path in checkpoint.files(directories[0]):
        (out / path.name).write_bytes(path.read_bytes())
    average(directories, coefficients, out)
    return score_pairs(RewardModel.open(out, manifest, "", "auto", measuring_dtype()), pairs)


@pytest.mark.parametrize("coefficients", [(1.0, 0.0, 0.0), (0.5, 0.0, 0.5), (0.2, 0.3, 0.5)])
def test_a_blend_scores_what_the_saved_average_does(
    trained_members, manifest, pairs, tmp_path, coefficients
):
    blend = Blend(trained_members, manifest)
    prepared = blend.prepare(pairs)
    blend.score((0.0, 1.0, 0.0), prepared)  # what was held before leaves nothing behind
    found = blend.score(coefficients, prepared)
    assert same(found, saved(trained_members, coefficients, manifest, pairs, tmp_path))


def changed(directory, out, touch):
    """A copy of a checkpoint's files whose tensors ``touch`` may change, by name."""
    out.mkdir()
    for path in checkpoint.files(directory):
        (out / path.name).write_bytes(path.read_bytes())
    tensors = load_file(directory / "model.safetensors")
    save_file(
        {name: touch(name, tensor) for name, tensor in tensors.items()},
        out / "model.safetensors",
        {"format": "pt"},
    )
    return out


def test_blocks_that_members_share_are_computed_once(trained_members, manifest, pairs, tmp_path):
    def touch(name, tensor):
        return tensor * 1.5 if "layers.2.mlp" in name else tensor

    members = [trained_members[0], changed(trained_members[0], tmp_path / "other", touch)]
    blend = Blend(members, manifest)
    assert blend.shared_blocks == 2
    prepared = blend.prepare(pairs)
    found = blend.score((0.25, 0.75), prepared)
    (tmp_path / "out").mkdir()
    assert same(found, saved(members, (0.25, 0.75), manifest, pairs, tmp_path / "out"))


def test_members_that_differ_in_the_head_alone_share_every_block(
    trained_members, manifest, pairs, tmp_path
):
    def touch(name, tensor):
        return -tensor if name == "score.weight" else tensor

    members = [trained_members[0], changed(trained_members[0], tmp_path / "other", touch)]
    blend = Blend(members, manifest)
    assert blend.shared_blocks == 3
    prepared = blend.prepare(pairs)
    straight, turned = (blend.score(own, prepared) for own in ((1.0, 0.0), (0.0, 1.0)))
    assert np.array_equal(straight.chosen, -turned.chosen)
    assert same(straight, score_pairs(RewardModel.load(members[0], dtype=measuring_dtype()), pairs))


@pytest.mark.parametrize("name", ["gpt2", "qwen3", "gemma3", "bert"])
def test_other_architectures_too(name, manifest, trained_members, tmp_path):
    config = (PACKED | PADDED)[name]
    members = []
    for seed in range(2):
        model = build(deepcopy(config))
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape), alpha=0.05)
        members.append(tmp_path / str(seed))
        model.save_pretrained(members[-1])
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            (members[-1] / file).write_bytes((trained_members[0] / file).read_bytes())
    pairs = [Ids([3, 4, 5, 6], [3, 4, 7]), Ids([9, 8, 7], [9, 8, 6, 5, 4])]
    blend = Blend(members, manifest)
    found = blend.score((0.5, 0.5), blend.prepare(pairs))
    (tmp_path / "out").mkdir()
    assert same(found, saved(members, (0.5, 0.5), manifest, pairs, tmp_path / "out"))
    assert len({*found.chosen.tolist(), *found.rejected.tolist()}) == 4


class Ids(msgspec.Struct):
    """What a blend reads of a pair."""

    chosen: list[int]
    rejected: list[int]


def test_a_tensor_of_another_dtype_is_refused_by_name(trained_members, manifest, pairs, tmp_path):
    def touch(name, tensor):
        return tensor.bfloat16() if name == "score.weight" else tensor

    members = [trained_members[0], changed(trained_members[0], tmp_path / "other", touch)]
    blend = Blend(members, manifest)
    with pytest.raises(CheckpointError, match=r"tensor score\.weight: torch\.bfloat16"):
        blend.score((0.5, 0.5), blend.prepare(pairs))
