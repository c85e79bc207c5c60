"""The bases of the experiment: what is kept is kept to the bit, the rest is drawn by the seed."""

import pytest
import torch
from safetensors.torch import load_file

from training import backbone
from training.experiments import lmc, smollm2
from training.experiments.lmc import drawn_anew
from training.experiments.smollm2 import lowest_blocks
from training.settings import SettingsError


@pytest.fixture
def base(monkeypatch, tiny_base, tmp_path):
    """Two of the tiny base's three blocks."""
    monkeypatch.setattr(smollm2, "BASE", tiny_base)
    return lowest_blocks(2, tmp_path / "base")


def tensors(directory):
    return load_file(directory / "model.safetensors")


def test_the_base_is_cut_to_its_lowest_blocks(base, tiny_base):
    cut, whole = tensors(base), tensors(tiny_base)
    assert {name for name in whole if "layers.2." in name} == whole.keys() - cut.keys()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in cut.items())


def test_top_blocks_are_drawn_anew_by_the_seed_and_the_others_kept(base, tmp_path):
    bases = [base, *(drawn_anew(base, 1, tmp_path / f"anew-{seed}", seed) for seed in (1, 2))]
    own, one, two = map(tensors, bases)
    for name in own:
        if "layers.1." not in name:
            assert torch.equal(own[name], one[name])
            assert torch.equal(own[name], two[name])
        elif "norm" not in name:
            assert not torch.equal(own[name], one[name])
            assert not torch.equal(one[name], two[name])
    assert len({backbone.digest_of_base(str(path)) for path in bases}) == 3
    again = drawn_anew(base, 1, tmp_path / "again", 1)
    assert all(torch.equal(tensor, one[name]) for name, tensor in tensors(again).items())


def test_the_initialisation_is_the_models_own(base, tmp_path):
    found = tensors(drawn_anew(base, 1, tmp_path / "anew", 1))
    weight = found["model.layers.1.mlp.up_proj.weight"]
    assert weight.std().item() == pytest.approx(0.1, rel=0.1)  # initializer_range of the tiny base
    assert found["model.layers.1.input_layernorm.weight"].unique().tolist() == [1.0]


def test_without_the_model_the_command_that_makes_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(smollm2, "BASE", tmp_path / "none")
    with pytest.raises(SettingsError, match=r"make it first: python examples/demo/backbone\.py"):
        lmc.run(tmp_path, quick=True)
