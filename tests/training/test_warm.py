"""Averages of weights: by hand on tensors, and of a tiny ensemble from end to end."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from plaudit import checkpoint, probes
from plaudit.checkpoint import CheckpointError
from plaudit.reward_model import RewardModel
from training.average import average, check
from training.settings import SettingsError
from training.warm import main, warm

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def member(root: Path, name: str, **tensors: torch.Tensor) -> Path:
    directory = root / name
    directory.mkdir(exist_ok=True)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def averaged(root: Path, directories: list[Path], coefficients: list[float]) -> Path:
    out = root / "out"
    out.mkdir(exist_ok=True)
    average(directories, coefficients, out)
    return out / "model.safetensors"


def test_the_mean_by_hand(tmp_path):
    a = member(tmp_path, "a", w=torch.tensor([[1.0, -4.0]]), b=torch.tensor([8.0]))
    b = member(tmp_path, "b", w=torch.tensor([[2.0, 6.0]]), b=torch.tensor([-8.0]))
    found = load_file(averaged(tmp_path, [a, b], [0.5, 0.5]))
    assert found["w"].tolist() == [[1.5, 1.0]]
    assert found["b"].tolist() == [0.0]


def test_coefficients_weigh_members(tmp_path):
    a = member(tmp_path, "a", w=torch.tensor([4.0]))
    b = member(tmp_path, "b", w=torch.tensor([8.0]))
    assert load_file(averaged(tmp_path, [a, b], [0.75, 0.25]))["w"].tolist() == [5.0]


def test_small_differences_of_bf16_members_are_summed_before_rounding(tmp_path):
    # 256 + 2 is exact in bf16, 256 + 1 is not: each term cast alone would lose it.
    values = (256.0, 256.0, 256.0, 264.0)
    members = [
        member(tmp_path, f"m{i}", w=torch.tensor([value], dtype=torch.bfloat16))
        for i, value in enumerate(values)
    ]
    found = load_file(averaged(tmp_path, members, [0.25] * 4))["w"]
    assert (found.dtype, found.tolist()) == (torch.bfloat16, [258.0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [2, 3, 6, 7])
def test_the_mean_of_copies_is_the_copy_byte_for_byte(tmp_path, dtype, count):
    torch.manual_seed(0)
    one = member(tmp_path, "one", w=torch.randn(300, 7).to(dtype), s=torch.randn(1, 7).to(dtype))
    found = averaged(tmp_path, [one] * count, [1 / count] * count)
    assert found.read_bytes() == (one / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"v": torch.ones(2)}, r"tensor names: \['v', 'w'\]"),
        ({"w": torch.ones(2), "v": torch.ones(2)}, r"tensor names: \['v'\]"),
        ({"w": torch.ones(3)}, r"tensor w: .*\(3,\).*\(2,\)"),
        ({"w": torch.ones(2, dtype=torch.bfloat16)}, "tensor w: torch.bfloat16"),
    ],
)
def test_tensors_that_do_not_match_are_refused_by_name(tmp_path, other, named):
    members = [member(tmp_path, "a", w=torch.ones(2)), member(tmp_path, "b", **other)]
    with pytest.raises(CheckpointError, match=named):
        averaged(tmp_path, members, [0.5, 0.5])


def test_members_in_different_files_are_refused(tmp_path):
    a, b = (member(tmp_path, name, w=torch.ones(2)) for name in "ab")
    (b / "model.safetensors").rename(b / "model-00001-of-00001.safetensors")
    with pytest.raises(CheckpointError, match="different files"):
        averaged(tmp_path, [a, b], [0.5, 0.5])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base.digest", "sha256:other"),
        ("head_init", "sha256:other"),
        ("digests.template", "sha256:other"),
        ("digests.tokenizer", "sha256:other"),
        ("max_tokens", 99),
        ("truncation_side", "right"),
    ],
)
def test_members_that_do_not_belong_together_are_refused_by_field(trained_members, field, value):
    manifests = [checkpoint.read(directory)[0] for directory in trained_members]
    check(trained_members, manifests)
    outer, _, inner = field.partition(".")
    changed = value
    if inner:
        changed = msgspec.structs.replace(getattr(manifests[2], outer), **{inner: value})
    manifests[2] = msgspec.structs.replace(manifests[2], **{outer: changed})
    with pytest.raises(CheckpointError, match=rf"member-2: {field} is {value}, "):
        check(trained_members, manifests)


@pytest.fixture(scope="module")
def averaged_members(trained_members, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("warm") / "warm"
    assert main([*map(str, trained_members), "--out", str(out)]) == 0
    return out


def test_every_tensor_is_the_mean_of_the_members(averaged_members, trained_members):
    found = load_file(averaged_members / "model.safetensors")
    members = [load_file(directory / "model.safetensors") for directory in trained_members]
    for name, tensor in found.items():
        mean = np.mean([one[name].double().numpy() for one in members], axis=0)
        assert tensor.numpy() == pytest.approx(mean, abs=1e-6)


def test_the_average_loads_in_plain_transformers_with_its_scores(averaged_members):
    tokenizer = AutoTokenizer.from_pretrained(averaged_members)
    model = AutoModelForSequenceClassification.from_pretrained(averaged_members, dtype="float32")
    manifest = checkpoint.read(averaged_members)[0]
    for probe in manifest.probes:
        text = tokenizer.apply_chat_template(list(probe.messages), tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            found = model(ids[:, -manifest.max_tokens :]).logits.item()
        assert found == pytest.approx(probe.score, abs=1e-5)
    assert probes.verify(RewardModel.load(averaged_members, device="cpu"), "float32") < 1e-5


def test_the_manifest_names_the_members(averaged_members, trained_members):
    manifest = checkpoint.read(averaged_members)[0]
    assert manifest.kind == "warm"
    assert [m.path for m in manifest.members] == [str(d) for d in trained_members]
    assert [m.digest for m in manifest.members] == [checkpoint.read(d)[1] for d in trained_members]
    assert sum(m.coefficient for m in manifest.members) == pytest.approx(1)
    assert set(manifest.training["beside"]) == {*(d.name for d in trained_members), "ens"}


def test_statistics_are_measured_again_and_not_averaged(averaged_members, trained_members):
    manifest = checkpoint.read(averaged_members)[0]
    members = [checkpoint.read(directory)[0] for directory in trained_members]
    assert manifest.stats.reference_digest == members[0].stats.reference_digest
    assert manifest.stats.count == members[0].stats.count
    assert manifest.stats.std != pytest.approx(np.mean([m.stats.std for m in members]), rel=1e-3)
    assert manifest.calibration.std == manifest.stats.std
    assert manifest.probes[0].score not in [m.probes[0].score for m in members]


def test_other_data_may_measure(trained_members, tmp_path, configure, pairs_file):
    settings = tmp_path / "settings.yaml"
    content = configure(tmp_path).model_dump(mode="json")
    content["sources"] = [{"name": "given", "path": str(pairs_file)}]
    settings.write_text(yaml.safe_dump(content))
    warm(trained_members, tmp_path / "warm", settings)
    found = checkpoint.read(tmp_path / "warm")[0]
    member_stats = checkpoint.read(trained_members[0])[0].stats
    assert found.stats.reference_digest != member_stats.reference_digest


def test_a_complete_directory_is_refused(averaged_members, trained_members):
    with pytest.raises(SettingsError, match="complete checkpoint"):
        warm(trained_members, averaged_members)


def test_one_member_is_refused(trained_members, tmp_path):
    with pytest.raises(SettingsError, match="at least two"):
        warm(trained_members[:1], tmp_path / "warm")


def test_a_damaged_member_is_refused_before_anything_is_written(trained_members, tmp_path):
    damaged = shutil.copytree(trained_members[1], tmp_path / "damaged")
    (damaged / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(CheckpointError, match=r"digests\.template"):
        warm([trained_members[0], damaged], tmp_path / "warm")
    assert not (tmp_path / "warm").exists()
