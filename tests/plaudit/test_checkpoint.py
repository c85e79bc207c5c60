"""The contract of a checkpoint: what is kept, what is refused and by which name."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from plaudit import checkpoint, probes
from plaudit.calibration import Calibration
from plaudit.checkpoint import (
    Base,
    CheckpointError,
    Digests,
    Manifest,
    Member,
    Probe,
    Stats,
)
from plaudit.reward_model import RewardModel

MANIFEST = Manifest(
    kind="single",
    base=Base("tiny", "sha256:base"),
    head_init="sha256:head",
    digests=Digests("sha256:w", "sha256:c", "sha256:t", "sha256:j"),
    max_tokens=64,
    dtype="float32",
)
CHANGES = {
    "format": 2,
    "kind": "warm",
    "base": Base("tiny", "sha256:other"),
    "head_init": "sha256:other",
    "members": (Member("m0", "sha256:m", 0.5),),
    "digests": Digests("sha256:w", "sha256:c", "sha256:t", "sha256:other"),
    "max_tokens": 65,
    "truncation_side": "right",
    "padding_side": "left",
    "dtype": "bfloat16",
    "stats": Stats("validation", "sha256:r", 2, 0.0, 1.0, (0.5,)),
    "calibration": Calibration("standardise", 0.1, 2.0),
    "probes": (Probe(({"role": "user", "content": "Hi"},), "sha256:i", 0.25),),
    "training": {"commit": "abc"},
}


@pytest.fixture
def copy(tiny_checkpoint, tmp_path) -> Path:
    """A full checkpoint to damage."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def change_json(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def vouch(directory: Path) -> None:
    """Digest the files again, as one would who changes a checkpoint and its manifest together."""
    found = msgspec.to_builtins(checkpoint.digests(directory))
    change_json(directory / "reward.json", lambda content: content.update(digests=found))


def test_what_is_written_is_read(tiny_checkpoint, copy):
    manifest, revision = checkpoint.read(tiny_checkpoint)
    full = msgspec.structs.replace(manifest, **{k: CHANGES[k] for k in ("members", "stats")})
    written = checkpoint.write(copy, full)
    assert checkpoint.read(copy) == (full, written)
    assert written != revision


def test_the_revision_is_the_digest_of_the_file(copy):
    digest = hashlib.sha256((copy / "reward.json").read_bytes()).hexdigest()
    assert checkpoint.read(copy)[1] == f"sha256:{digest}"


@pytest.mark.parametrize("field", Manifest.__struct_fields__)
def test_every_field_is_part_of_the_revision(field, tmp_path):
    changed = msgspec.structs.replace(MANIFEST, **{field: CHANGES[field]})
    revision = checkpoint.write(tmp_path, MANIFEST)
    assert checkpoint.write(tmp_path, MANIFEST) == revision
    assert checkpoint.write(tmp_path, changed) != revision


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def append_space(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize(
    ("file", "damage", "field"),
    [
        ("model.safetensors", flip_last_byte, "digests.weights"),
        ("config.json", append_space, "digests.config"),
        ("tokenizer.json", append_space, "digests.tokenizer"),
        ("tokenizer_config.json", append_space, "digests.tokenizer"),
        ("tokenizer_config.json", Path.unlink, "digests.tokenizer"),
        ("chat_template.jinja", append_space, "digests.template"),
        ("chat_template.jinja", Path.unlink, "digests.template"),
        ("config.json", Path.unlink, "config.json"),
    ],
)
def test_a_changed_file_is_refused_by_name(copy, file, damage, field):
    damage(copy / file)
    with pytest.raises(CheckpointError, match=field):
        checkpoint.read(copy)


def test_a_file_of_weights_that_was_added_is_refused(copy):
    save_file({"score.weight": torch.ones(1, 32)}, copy / "more.safetensors")
    with pytest.raises(CheckpointError, match=r"digests\.weights"):
        checkpoint.read(copy)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"format": 2}, "format 2"),
        ({"surprise": 1}, "surprise"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"kind": "double"}, "kind"),
        ({"calibration": {"kind": "standardise", "std": 0}}, r"calibration\.std"),
        ({"base": {"id": "tiny"}}, "digest.*base"),
    ],
)
def test_a_changed_field_is_refused_by_name(copy, change, name):
    change_json(copy / "reward.json", lambda content: content.update(change))
    with pytest.raises(CheckpointError, match=name):
        checkpoint.read(copy)


def test_a_cut_manifest_is_refused(copy):
    whole = (copy / "reward.json").read_bytes()
    (copy / "reward.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"reward\.json"):
        checkpoint.read(copy)


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "plain"])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}, "num_labels is 2"),
        ({"pad_token_id": 2}, "pad_token_id equals eos"),
        ({"pad_token_id": 2, "eos_token_id": [1, 2]}, "pad_token_id equals eos"),
        ({"pad_token_id": None}, "pad_token_id is missing"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        (
            {"text_config": {}, "model_type": "gemma3"},
            "several models in one .gemma3.: serve",
        ),
    ],
)
def test_a_config_of_no_reward_model_is_refused(copy, change, name, complete):
    change_json(copy / "config.json", lambda content: content.update(change))
    if complete:
        vouch(copy)
    else:
        (copy / "reward.json").unlink()
    with pytest.raises(CheckpointError, match=name):
        checkpoint.read(copy) if complete else RewardModel.load(copy, device="cpu")


class Canary:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "plain"])
def test_pickled_weights_are_refused_and_never_opened(copy, tmp_path, complete):
    canary = tmp_path / "canary"
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(canary)))
    if not complete:
        (copy / "reward.json").unlink()
    with pytest.raises(CheckpointError, match=r"no \.safetensors weights"):
        RewardModel.load(copy, device="cpu")
    assert not canary.exists()
    pickle.loads((copy / "pytorch_model.bin").read_bytes())
    assert canary.exists()  # the canary does sing


def test_an_interrupted_write_is_not_complete(copy):
    (copy / "reward.json").rename(copy / ".reward.json.host.1")
    assert not checkpoint.is_complete(copy)
    with pytest.raises(CheckpointError, match=r"no reward\.json"):
        checkpoint.read(copy)


def test_writing_leaves_nothing_but_the_manifest(tmp_path):
    checkpoint.write(tmp_path, MANIFEST)
    assert [path.name for path in tmp_path.iterdir()] == ["reward.json"]


def test_a_checkpoint_loads_in_plain_transformers_with_its_scores(tiny_checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, dtype="float32")
    promised = checkpoint.read(tiny_checkpoint)[0].probes
    assert len(promised) == 32
    for probe in promised:
        text = tokenizer.apply_chat_template(list(probe.messages), tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            found = model(ids[:, -512:]).logits.item()
        assert found == pytest.approx(probe.score, abs=1e-5)


def test_probes_hold_on_a_good_checkpoint(tiny_checkpoint):
    model = RewardModel.load(tiny_checkpoint, device="cpu")
    assert probes.verify(model, "float32") < 1e-5


@pytest.mark.parametrize(
    "change", [lambda head: head * 1.1, torch.randn_like], ids=["scaled", "fresh"]
)
def test_probes_refuse_another_head(copy, change):
    weights = load_file(copy / "model.safetensors")
    weights["score.weight"] = change(weights["score.weight"])
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    vouch(copy)
    model = RewardModel.load(copy, device="cpu")
    with pytest.raises(CheckpointError, match=r"probes\[\d+\]\.score"):
        probes.verify(model, "float32")


def test_probes_refuse_another_template(copy):
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>", "<|im_end|> "))
    vouch(copy)
    model = RewardModel.load(copy, device="cpu")
    with pytest.raises(CheckpointError, match=r"probes\[0\]\.ids_digest"):
        probes.verify(model, "float32")


def test_a_plain_model_has_one_revision_however_its_path_is_spelled(copy, monkeypatch):
    (copy / "reward.json").unlink()
    found = checkpoint.describe(copy, 512)
    assert found[0].base.id == copy.name
    link = copy.parent / "current"
    link.symlink_to(copy)
    monkeypatch.chdir(copy)
    for path in (link, Path(), Path("../current"), copy / ".." / copy.name):
        assert checkpoint.describe(path, 512) == found


def test_a_plain_model_promises_no_probes(copy):
    (copy / "reward.json").unlink()
    assert probes.verify(RewardModel.load(copy, device="cpu"), "float32") == 0.0


def test_a_moved_boundary_changes_the_digest():
    assert checkpoint.sha256(b"ab", b"c") != checkpoint.sha256(b"a", b"bc")


parts = st.lists(st.binary(max_size=9), max_size=4)


@given(parts, parts)
def test_digests_are_equal_only_for_equal_parts(a, b):
    assert (checkpoint.sha256(*a) == checkpoint.sha256(*b)) == (a == b)


@given(parts, st.data())
def test_regrouping_the_same_bytes_changes_the_digest(a, data):
    whole = b"".join(a)
    cut = data.draw(st.integers(0, len(whole)))
    b = [whole[:cut], whole[cut:]]
    assert (checkpoint.sha256(*a) == checkpoint.sha256(*b)) == (a == b)


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 1024}, 1024),
        ({}, 4096),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
    ],
)
def test_a_plain_model_is_cut_at_its_positions(config, limit):
    assert checkpoint._positions(config, default=4096) == limit


TEMPLATE = "{{ messages[0]['content'] }}"
ADDED_TEXTS = {
    "additional_chat_templates/default.jinja": ("template", TEMPLATE),
    "special_tokens_map.json": ("tokenizer", '{"eos_token": "<|im_start|>"}'),
    "added_tokens.json": ("tokenizer", '{"and": 300}'),
}


@pytest.mark.parametrize("name", ADDED_TEXTS)
def test_a_file_that_the_tokenizer_reads_cannot_be_added(copy, name):
    field, content = ADDED_TEXTS[name]
    plain = shutil.copytree(copy, copy.parent / "plain")
    (plain / "reward.json").unlink()
    _, before = checkpoint.describe(plain, 512)
    for directory in (copy, plain):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(content)
    with pytest.raises(CheckpointError, match=rf"digests.{field}.*{name}"):
        checkpoint.read(copy)
    assert checkpoint.describe(plain, 512)[1] != before


def test_a_template_that_moves_into_the_folder_of_templates_is_another_one(copy):
    before = checkpoint.text_digests(copy)[1]
    (copy / "additional_chat_templates").mkdir()
    (copy / "chat_template.jinja").rename(copy / "additional_chat_templates/chat_template.jinja")
    assert checkpoint.text_digests(copy)[1] != before
