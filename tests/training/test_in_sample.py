"""Members that saw a pair, or may have, are refused for its strength."""

import json
import shutil
from dataclasses import replace

import msgspec
import pytest

from plaudit import checkpoint
from training.data.shapes import Pair
from training.data.sources import Source, load
from training.data.splits import Fold
from training.in_sample import refuse_base, refuse_member
from training.linear_probe import probe_head
from training.method_settings import LinearProbe
from training.settings import SettingsError
from training.train import train
from training.warm import warm


@pytest.fixture(scope="module")
def pairs(easy_pairs) -> list[Pair]:
    return load(Source(name="easy", path=easy_pairs)).pairs


@pytest.fixture(scope="module")
def member(configure, tmp_path_factory):
    """A member that did not see the second of two folds."""
    config = configure(tmp_path_factory.mktemp("member") / "out", epochs=0.2)
    split = config.split.model_copy(update={"fold": Fold(count=2, held_out=1)})
    config = config.model_copy(update={"split": split})
    train(config)
    return config


def on(config, pairs, side):
    return [pair for pair in pairs if config.split.side(pair) == side]


def test_its_own_fold_is_measured_and_its_training_pairs_are_not(member, pairs):
    unseen = on(member, pairs, "held_out") + on(member, pairs, "test")
    refuse_member(member.out, unseen)
    seen = on(member, pairs, "train")
    with pytest.raises(SettingsError, match=f"prompts of {len(seen)} of {len(pairs)} pairs"):
        refuse_member(member.out, pairs)


def test_another_source_s_pairs_of_a_seen_prompt_are_refused(member, pairs):
    seen = replace(on(member, pairs, "train")[0], source="other", chosen="new", rejected="text")
    with pytest.raises(SettingsError, match="is memory"):
        refuse_member(member.out, [seen])


@pytest.fixture
def child(configure, member, tmp_path):
    """Trained from the member, on prompts of the fold that the member did not see."""
    base = shutil.copytree(member.out, tmp_path / "base")
    split = member.split.model_copy(update={"fold": Fold(count=2, held_out=0)})
    config = configure(tmp_path / "child", model=str(base), split=split, epochs=0.2)
    train(config)
    return config


def test_what_its_base_saw_is_refused(child, member, pairs):
    held_out = on(child, pairs, "held_out")  # the child's own fold
    with pytest.raises(SettingsError, match=r"child: .*base was trained on"):
        refuse_member(child.out, held_out)
    with pytest.raises(SettingsError, match="base was trained on"):
        refuse_base(checkpoint.read(child.out)[0].base, held_out)
    refuse_member(child.out, on(child, pairs, "test"))


def test_a_child_that_goes_on_with_its_base_s_head_saw_what_its_base_saw(child, pairs, tmp_path):
    base = tmp_path / "base"
    update = {"out": tmp_path / "branch", "head": base / "model.safetensors"}
    branch = child.model_copy(update=update)
    train(branch)
    with pytest.raises(SettingsError, match=r"branch: .*base was trained on"):
        refuse_member(branch.out, on(branch, pairs, "held_out"))
    refuse_member(branch.out, on(branch, pairs, "test"))


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_base_that_cannot_be_asked_is_refused(child, pairs, tiny_base, tmp_path, change):
    shutil.rmtree(tmp_path / "base")
    if change == "other":
        shutil.copytree(tiny_base, tmp_path / "base")
    with pytest.raises(SettingsError, match="is not there as it was"):
        refuse_member(child.out, on(child, pairs, "test"))


@pytest.fixture
def headed(configure, member, tmp_path):
    """Its head was fitted to the whole train side, also to the fold that it was not trained on."""
    head = tmp_path / "head.safetensors"
    probe_head(configure(tmp_path), LinearProbe(), head)
    config = member.model_copy(update={"out": tmp_path / "headed", "head": head})
    train(config)
    head.unlink()  # reward.json says enough
    return config


def test_what_its_head_was_fitted_to_is_refused(headed, pairs):
    held_out = on(headed, pairs, "held_out")
    with pytest.raises(SettingsError, match=r"head\.safetensors was trained on"):
        refuse_member(headed.out, held_out)
    refuse_member(headed.out, on(headed, pairs, "test"))


def test_a_head_that_lies_beside_its_base_s_weights_says_for_itself(
    configure, member, pairs, tmp_path
):
    base = shutil.copytree(member.model, tmp_path / "base")
    head = base / "head.safetensors"
    probe_head(configure(tmp_path, model=str(base)), LinearProbe(), head)
    update = {"out": tmp_path / "headed", "model": str(base), "head": head}
    config = member.model_copy(update=update)
    train(config)
    with pytest.raises(SettingsError, match=r"head\.safetensors was trained on"):
        refuse_member(config.out, on(config, pairs, "held_out"))


def test_a_head_that_does_not_say_is_refused(headed, pairs):
    manifest, _ = checkpoint.read(headed.out)
    about = manifest.training["head"]
    assert json.loads(about["data"]) == manifest.training["data"]
    silent = manifest.training | {"head": {k: v for k, v in about.items() if k != "split"}}
    checkpoint.write(headed.out, msgspec.structs.replace(manifest, training=silent))
    with pytest.raises(SettingsError, match="head does not say what it was fitted to"):
        refuse_member(headed.out, on(headed, pairs, "test"))


def test_a_member_that_does_not_say_is_refused(member, pairs, tmp_path):
    silent = shutil.copytree(member.out, tmp_path / "silent")
    manifest, _ = checkpoint.read(silent)
    checkpoint.write(silent, msgspec.structs.replace(manifest, training={}))
    with pytest.raises(SettingsError, match="does not say what it was trained on"):
        refuse_member(silent, on(member, pairs, "test"))


def test_an_average_saw_what_its_members_saw(ensemble_plan, trained_members, pairs, tmp_path):
    copies = [shutil.copytree(path, tmp_path / path.name) for path in trained_members]
    warm(copies, tmp_path / "warm")
    refuse_member(tmp_path / "warm", on(ensemble_plan, pairs, "test"))
    with pytest.raises(SettingsError, match=r"member-0 was trained on"):
        refuse_member(tmp_path / "warm", on(ensemble_plan, pairs, "train"))
    shutil.rmtree(copies[1])
    with pytest.raises(SettingsError, match=r"member-1, of which it is an average, is not there"):
        refuse_member(tmp_path / "warm", on(ensemble_plan, pairs, "test"))
