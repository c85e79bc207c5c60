"""Bases of the hub, in a local cache of it, known by their weights and their commit."""

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from tiny_llama import save_language_model
from transformers import AutoModelForCausalLM

from plaudit import checkpoint
from plaudit.checkpoint import Base, CheckpointError
from training import backbone, hub, model_card
from training.in_sample import refuse_base
from training.settings import SettingsError
from training.train import train
from training.warm import Members

MODEL = "owner/tiny"
OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """``publish(directory, commit)``: the cache as a download of the model's main branch leaves
    it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    store = tmp_path / "hub" / "models--owner--tiny"

    def _publish(directory: Path, commit: str) -> Path:
        (store / "refs").mkdir(parents=True, exist_ok=True)
        (store / "refs" / "main").write_text(commit)
        return shutil.copytree(directory, store / "snapshots" / commit)

    yield _publish
    hub.commit.cache_clear()


@pytest.fixture
def other_base(tmp_path, tokenizer) -> Path:
    """The tiny base after its authors have trained it on."""
    changes = {"num_hidden_layers": 3, "max_position_embeddings": 256, "initializer_range": 0.1}
    save_language_model(tmp_path / "other", tokenizer, seed=8, **changes)
    return tmp_path / "other"


def in_a_new_process() -> None:
    hub.commit.cache_clear()


def test_a_base_of_the_hub_has_the_digest_of_a_directory_of_the_same_weights(publish, tiny_base):
    publish(tiny_base, OLD)
    assert backbone.base(MODEL) == Base(MODEL, backbone.digest_of_base(str(tiny_base)), commit=OLD)


def test_another_revision_has_another_digest_and_the_same_weights_the_same(
    publish, tiny_base, other_base
):
    publish(tiny_base, OLD)
    old = backbone.base(MODEL)
    in_a_new_process()
    publish(other_base, NEW)
    assert backbone.base(MODEL).digest == backbone.digest_of_base(str(other_base)) != old.digest
    in_a_new_process()
    publish(tiny_base, "c" * 40)  # such as one that changes the model's card alone
    assert backbone.base(MODEL).digest == old.digest


def test_shards_are_those_of_the_index_and_no_other_file(publish, tiny_base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    model.save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    expected = backbone.digest_of_base(str(tmp_path / "shards"))
    snapshot = publish(tmp_path / "shards", OLD)
    (snapshot / "consolidated.safetensors").write_bytes(b"of another tool")
    assert len(hub.weight_files(MODEL)) > 1
    assert backbone.digest_of_base(MODEL) == expected


def test_a_process_reads_one_revision_also_where_another_is_fetched_meanwhile(
    publish, configure, tiny_base, other_base, tmp_path
):
    publish(tiny_base, OLD)
    config = configure(tmp_path / "out", model=MODEL)
    before = backbone.base(MODEL)
    publish(other_base, NEW)
    found = backbone.load_backbone(config, backbone.load_tokenizer(config))
    plain = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    assert torch.equal(found.model.embed_tokens.weight, plain.model.embed_tokens.weight)
    assert backbone.base(MODEL) == before


def test_members_of_two_revisions_are_not_averaged(
    publish, configure, tiny_base, other_base, tmp_path
):
    outs = [tmp_path / "first", tmp_path / "second"]
    for out, directory, commit in zip(outs, [tiny_base, other_base], [OLD, NEW], strict=True):
        publish(directory, commit)
        train(configure(out, model=MODEL, epochs=0.1))
        in_a_new_process()
    assert [checkpoint.read(out)[0].base.commit for out in outs] == [OLD, NEW]
    with pytest.raises(CheckpointError, match=r"second: base\.digest"):
        Members.read(outs)


def test_pickled_weights_are_refused_before_they_are_read(publish, configure, tiny_base, tmp_path):
    snapshot = publish(tiny_base, OLD)
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    config = configure(tmp_path / "out", model=MODEL)
    tokenizer = backbone.load_tokenizer(config)
    with pytest.raises(SettingsError, match=f"{MODEL}: commit {OLD} has no .safetensors weights"):
        backbone.load_backbone(config, tokenizer)


@pytest.mark.parametrize("model", [MODEL, "models/of/tiny"])
def test_a_model_that_is_nowhere_is_named_with_what_mends_it(publish, configure, tmp_path, model):
    with pytest.raises(SettingsError, match=f"{model}: no such directory, .* hf download"):
        backbone.load_tokenizer(configure(tmp_path / "out", model=model))


def test_a_model_of_the_hub_was_not_trained_on_our_pairs_and_is_named_in_full(publish, tiny_base):
    publish(tiny_base, OLD)
    base = backbone.base(MODEL)
    refuse_base(base, [])
    assert model_card.base_name(base) == MODEL
    assert model_card.base_name(backbone.base(str(tiny_base))) == tiny_base.name
