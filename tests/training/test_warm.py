"""Averages of weights: by hand on tensors, and of a tiny ensemble from end to end."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import yaml
from heard import heard
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from plaudit import checkpoint, probes
from plaudit.checkpoint import CheckpointError
from plaudit.reward_model import RewardModel
from training.average import average, check
from training.coefficients import Best, Given, Greedy, Uniform
from training.data.splits import Split
from training.measure import score_pairs
from training.method_settings import Lora
from training.precision import measuring_dtype
from training.settings import SettingsError
from training.shared_files import alone
from training.sides import Sides, prompts
from training.train import add_lora
from training.warm import Members, Options, asked, main, warm

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
    warm(trained_members, tmp_path / "warm", Options(data=settings, points=3))
    found = checkpoint.read(tmp_path / "warm")[0]
    member_stats = checkpoint.read(trained_members[0])[0].stats
    assert found.stats.reference_digest != member_stats.reference_digest


def test_an_average_that_was_asked_for_just_so_is_kept(averaged_members, trained_members, capsys):
    sealed = (averaged_members / "reward.json").stat().st_mtime_ns
    assert main([*map(str, trained_members), "--out", str(averaged_members)]) == 0
    assert capsys.readouterr().out == f"{averaged_members}: complete already\n"
    assert (averaged_members / "reward.json").stat().st_mtime_ns == sealed


@pytest.mark.parametrize(
    ("chosen", "method"),
    [((0, 1), Uniform()), ((0, 1, 2), Best(3)), ((0, 1, 2), Given((0.5, 0.25, 0.25)))],
)
def test_any_other_complete_directory_is_refused(averaged_members, trained_members, chosen, method):
    members = [trained_members[one] for one in chosen]
    for out in (averaged_members, trained_members[2]):
        with pytest.raises(SettingsError, match=f"complete checkpoint, and not the {method.name}"):
            warm(members, out, Options(method))


def test_an_average_is_kept_only_if_it_was_selected_by_the_same_settings(
    trained_members, wide, tmp_path
):
    out, other = tmp_path / "warm", tmp_path / "other.yaml"
    content = yaml.safe_load(wide.read_text())
    other.write_text(yaml.safe_dump(content | {"split": content["split"] | {"validation": 0.9}}))
    warm(trained_members, out, Options(Best(2), wide, points=3))
    wide.write_text(f"# The same.\n{wide.read_text()}")
    warm(trained_members, out, Options(Best(2), wide))
    for options in (Options(Best(2), other), Options(Best(2)), Options(Best(2), wide, other)):
        with pytest.raises(SettingsError, match="not the best average that is asked for"):
            warm(trained_members, out, options)
    with pytest.raises(SettingsError, match="no such settings file"):
        warm(trained_members, out, Options(Best(2), wide, tmp_path / "none.yaml"))


def test_averages_by_given_coefficients_are_known_by_method_and_members_alone():
    """As those are that were made before methods that select had more to their digest."""
    members = Members([], [], ["sha256:a", "sha256:b"])
    found = asked(members, Options(Given((0.5, 0.5)), Path("any"), Path("other")))
    assert found == checkpoint.sha256(b"Given(coefficients=(0.5, 0.5))", b"sha256:a", b"sha256:b")


def test_an_average_that_another_process_seals_meanwhile_is_kept(
    averaged_members, trained_members, tmp_path
):
    out = tmp_path / "warm"
    with heard() as said, ThreadPoolExecutor(1) as threads:
        with alone(out):
            late = threads.submit(warm, trained_members, out)
            said.wait_for("waiting for that one\n")
            shutil.copytree(averaged_members, out)
        late.result(60)
    assert said.getvalue().endswith(f"waiting for that one\n{out}: complete already\n")
    checkpoint.read(out)


def test_one_member_is_refused(trained_members, tmp_path):
    with pytest.raises(SettingsError, match="at least two"):
        warm(trained_members[:1], tmp_path / "warm")


def test_a_damaged_member_is_refused_before_anything_is_written(trained_members, tmp_path):
    damaged = shutil.copytree(trained_members[1], tmp_path / "damaged")
    (damaged / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(CheckpointError, match=r"digests\.template"):
        warm([trained_members[0], damaged], tmp_path / "warm")
    assert not (tmp_path / "warm").exists()


def manifest_of(directory: Path) -> checkpoint.Manifest:
    return checkpoint.read(directory)[0]


def settings_file(path: Path, config, **changes: object) -> Path:
    path.write_text(yaml.safe_dump(config.model_dump(mode="json") | changes))
    return path


@pytest.fixture
def wide(tmp_path, configure) -> Path:
    """Settings whose validation side has 40 prompts, enough to select by half of them."""
    config = configure(tmp_path, split=Split(validation=0.9999, test=0))
    return settings_file(tmp_path / "wide.yaml", config)


def reported(directory: Path, wanted: list[bool]) -> float:
    """Accuracy of a saved model on the wanted of its validation pairs, by its own forward."""
    pairs = Sides.of(directory, manifest_of(directory), None, None).reference
    model = RewardModel.load(directory, dtype=measuring_dtype())
    found = score_pairs(model, pairs)
    return float((found.chosen - found.rejected > 0)[np.array(wanted)].mean())


def test_what_selects_and_scans_is_never_reported(averaged_members, trained_members):
    manifest = manifest_of(averaged_members)
    sides = Sides.of(trained_members[0], manifest_of(trained_members[0]), None, None)
    assert prompts(sides.selection) | prompts(sides.measured) == prompts(sides.reference)
    assert not prompts(sides.selection) & prompts(sides.measured)
    chosen = manifest.training["selection"]
    assert (chosen["pairs"], chosen["prompts"]) == (
        len(sides.selection),
        len(prompts(sides.selection)),
    )
    assert manifest.training["beside"]["member-1"] == reported(trained_members[1], sides.reported)
    unreported = [not one for one in sides.reported]
    assert chosen["accuracies"]["member-1"] == reported(trained_members[1], unreported)
    model = RewardModel.load(averaged_members, dtype=measuring_dtype())
    own = score_pairs(model, sides.measured)
    assert manifest.training["validation_accuracy"] == own.accuracy


def test_statistics_are_over_both_halves(averaged_members, trained_members):
    sides = Sides.of(trained_members[0], manifest_of(trained_members[0]), None, None)
    assert manifest_of(averaged_members).stats.count == 2 * len(sides.reference)


def test_the_scan_stands_in_the_manifest_and_beside_it(averaged_members):
    found = manifest_of(averaged_members).training
    assert found["method"] == "uniform"
    lines = found["connectivity"]["lines"]
    assert [one["members"] for one in lines] == [
        ["member-0", "member-1"], ["member-0", "member-2"], ["member-1", "member-2"],
    ]  # fmt: skip
    assert lines[0]["places"] == pytest.approx(np.linspace(0, 1, 11))
    ends = [lines[0]["accuracies"][0], lines[1]["accuracies"][-1]]
    assert ends == [found["selection"]["accuracies"][name] for name in ("member-0", "member-2")]
    assert not found["connectivity"]["forced"]
    drawn = json.loads((averaged_members / "connectivity.json").read_text())
    assert [one["first"] for one in drawn["lines"]] == ["member-0", "member-0", "member-1"]
    assert (averaged_members / "connectivity.svg").read_text().rstrip().endswith("</svg>")


def apart(directory: Path, out: Path) -> Path:
    """A member that computes the same function by other weights: values and MLPs change their sign,
    and what reads them changes it back. Half way to it, both are zero."""
    shutil.copytree(directory, out)
    tensors = load_file(out / "model.safetensors")
    turned = ("v_proj", "o_proj", "up_proj", "down_proj")
    for name in tensors:
        if any(part in name for part in turned):
            tensors[name] = -tensors[name]
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    manifest = msgspec.json.decode((out / "reward.json").read_bytes(), type=checkpoint.Manifest)
    checkpoint.write(out, msgspec.structs.replace(manifest, digests=checkpoint.digests(out)))
    return out


def test_members_of_different_basins_are_refused_before_weights_are_written(
    trained_members, wide, tmp_path
):
    members = [trained_members[0], apart(trained_members[0], tmp_path / "apart")]
    out = tmp_path / "warm"
    with pytest.raises(SettingsError, match=r"member-0 to apart: lowest at 0\.50, .*--force"):
        warm(members, out, Options(data=wide, points=3))
    assert sorted(path.name for path in out.iterdir()) == ["connectivity.json", "connectivity.svg"]


def test_they_are_averaged_by_force_which_the_manifest_says(trained_members, wide, tmp_path):
    members = [trained_members[0], apart(trained_members[0], tmp_path / "apart")]
    given = Given((0.75, 0.25))
    warm(members, tmp_path / "warm", Options(given, wide, points=3, force=True))
    found = manifest_of(tmp_path / "warm")
    assert found.training["connectivity"]["forced"]
    assert found.training["connectivity"]["lines"][0]["lowest"]["low"] > 0.02
    assert [m.coefficient for m in found.members] == [0.75, 0.25]
    half = load_file(tmp_path / "warm" / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    whole = load_file(members[0] / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    torch.testing.assert_close(half, whole / 2)


def test_force_does_not_override_what_is_refused_by_digest(trained_members, tmp_path):
    other = shutil.copytree(trained_members[1], tmp_path / "other")
    manifest = manifest_of(other)
    base = msgspec.structs.replace(manifest.base, digest="sha256:other")
    checkpoint.write(other, msgspec.structs.replace(manifest, base=base))
    with pytest.raises(CheckpointError, match=r"base\.digest"):
        warm([trained_members[0], other], tmp_path / "warm", Options(force=True))


def test_the_best_two_are_averaged_and_the_third_is_named_no_member(
    trained_members, wide, tmp_path
):
    out = tmp_path / "warm"
    command = ["--best", "2", "--data", str(wide), "--points", "3", "--out", str(out)]
    assert main([*map(str, trained_members), *command]) == 0
    found = manifest_of(out)
    accuracies = found.training["selection"]["accuracies"]
    best = sorted(accuracies, key=accuracies.__getitem__, reverse=True)[:2]
    assert {Path(m.path).name for m in found.members} == set(best)
    assert [m.coefficient for m in found.members] == [0.5, 0.5]
    mean = [load_file(Path(m.path) / "model.safetensors")["score.weight"] for m in found.members]
    own = load_file(out / "model.safetensors")["score.weight"]
    torch.testing.assert_close(own, (mean[0] + mean[1]) / 2)


def test_greedy_leaves_out_whom_the_average_gets_worse_by(trained_members, wide, tmp_path):
    """The third member is the first with its head turned round and longer: it ranks everything the
    wrong way, and so does any mean with it."""
    turned = shutil.copytree(trained_members[0], tmp_path / "turned")
    tensors = load_file(turned / "model.safetensors")
    tensors["score.weight"] = -9 * tensors["score.weight"]
    save_file(tensors, turned / "model.safetensors", {"format": "pt"})
    manifest = msgspec.json.decode((turned / "reward.json").read_bytes(), type=checkpoint.Manifest)
    checkpoint.write(turned, msgspec.structs.replace(manifest, digests=checkpoint.digests(turned)))
    members = [*trained_members[:2], turned]
    warm(members, tmp_path / "warm", Options(Greedy(), wide, points=3))
    found = manifest_of(tmp_path / "warm")
    assert found.training["method"] == "greedy"
    assert "turned" not in {Path(m.path).name for m in found.members}


def test_too_few_prompts_to_select_by_are_refused(trained_members, tmp_path):
    with pytest.raises(SettingsError, match=r"selection side has pairs of \d prompts.*at least 20"):
        warm(trained_members, tmp_path / "warm", Options(Greedy()))
    assert not (tmp_path / "warm").exists()


def test_other_settings_may_select_unless_their_prompts_are_reported(
    trained_members, configure, pairs_file, tmp_path
):
    sources = [{"name": "given", "path": str(pairs_file)}]
    other = configure(tmp_path, split=Split(validation=0.9, test=0))
    same = settings_file(tmp_path / "same.yaml", other)
    with pytest.raises(SettingsError, match=r"same\.yaml: \d+ of its prompts are among the rep"):
        warm(trained_members, tmp_path / "warm", Options(selection=same))
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    for row in rows:
        row["prompt"][0]["content"] += " Or else?"
    pairs_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    apart_from = settings_file(tmp_path / "apart.yaml", other, sources=sources)
    warm(trained_members, tmp_path / "warm", Options(selection=apart_from, points=3))
    found = manifest_of(tmp_path / "warm").training
    assert found["selection"]["of"] == str(apart_from)
    everything = Sides.of(trained_members[0], manifest_of(trained_members[0]), None, None).reference
    assert found["beside"]["member-1"] == reported(trained_members[1], [True] * len(everything))


def test_members_of_one_name_are_told_apart_by_their_paths(trained_members, tmp_path):
    other = shutil.copytree(trained_members[1], tmp_path / trained_members[0].name)
    warm([trained_members[0], other], tmp_path / "warm", Options(points=3))
    named = manifest_of(tmp_path / "warm").training["beside"]
    assert set(named) == {str(trained_members[0]), str(other), "ens"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (Options(points=2), "--points 2: at least 3"),
        (Options(allowed=-0.1), "--below -0.1"),
        (Options(Best(9)), "--best 9: there are 3 members"),
        (Options(Given((1.0,))), "1 values for 3 members"),
    ],
)
def test_options_that_make_no_sense_are_refused_first(trained_members, tmp_path, options, named):
    with pytest.raises(SettingsError, match=named):
        warm(trained_members, tmp_path / "warm", options)
    assert not (tmp_path / "warm").exists()


def test_members_with_adapters_average_their_products_and_not_their_factors(tiny_base, tmp_path):
    """Two LoRA members as they are saved, merged: the mean of B A is not mean B times mean A."""
    name, products, factors = "model.layers.1.mlp.up_proj.weight", [], []
    for seed in range(2):
        model = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=1)
        base = model.state_dict()[name].clone()
        tuner = add_lora(model, Lora(r=2, alpha=6))
        generator = torch.Generator().manual_seed(seed)
        for key, tensor in model.named_parameters():
            if "lora_" in key:
                tensor.data = torch.randn(tensor.shape, generator=generator)
        up = model.base_model.layers[1].mlp.up_proj
        a, b = up.lora_A["default"].weight, up.lora_B["default"].weight
        factors.append((b.detach().clone(), a.detach().clone()))
        products.append(3 * (b @ a).detach())
        tuner.merge_and_unload().save_pretrained(tmp_path / str(seed))
    found = load_file(averaged(tmp_path, [tmp_path / "0", tmp_path / "1"], [0.5, 0.5]))[name]
    torch.testing.assert_close(found, base + (products[0] + products[1]) / 2, atol=1e-5, rtol=1e-5)
    mean_b, mean_a = (sum(pair[i] for pair in factors) / 2 for i in range(2))
    assert (found - base - 3 * mean_b @ mean_a).abs().max() > 1
