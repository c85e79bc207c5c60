"""Strength of noisy pairs by tiny models that never saw them, and what is done by it."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from plaudit import checkpoint
from training.data.jsonlines import DataError
from training.data.shapes import Pair
from training.data.sources import Source, load
from training.method_settings import LinearProbe
from training.noise.cross_fit import StrengthPlan, cross_fit, main
from training.noise.relabel import main as relabel
from training.noise.strength import auc_of_wrong_labels
from training.settings import MemberSettings, SettingsError
from training.train import train

FLIPPED = 5


@pytest.fixture(scope="module")
def noisy_pairs(easy_pairs, tmp_path_factory):
    """The easy pairs, every fifth one mislabelled."""
    path = tmp_path_factory.mktemp("noisy") / "noisy.jsonl"
    rows = [json.loads(line) for line in easy_pairs.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["flipped"] = number % FLIPPED == 0
        if row["flipped"]:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def plan(configure, noisy_pairs, tmp_path_factory) -> StrengthPlan:
    found = configure(
        tmp_path_factory.mktemp("strength") / "out",
        StrengthPlan,
        sources=[Source(name="noisy", path=noisy_pairs)],
        folds=2,
        members=[MemberSettings(seed=1, lr=3e-3), MemberSettings(seed=2, lr=3e-3)],
    )
    assert isinstance(found, StrengthPlan)
    cross_fit(found)
    return found


@pytest.fixture(scope="module")
def rows(plan) -> list[dict]:
    return [json.loads(line) for line in (plan.out / "strength.jsonl").read_text().splitlines()]


def test_every_training_pair_is_measured_once(plan, rows, noisy_pairs):
    pairs = load(Source(name="noisy", path=noisy_pairs)).pairs
    train_side = [pair for pair in pairs if plan.split.side(pair) == "train"]
    assert sorted(row["chosen"] for row in rows) == sorted(pair.chosen for pair in train_side)


def test_no_pair_is_measured_by_a_member_of_its_own_fold(plan, rows):
    folds = {row["prompt"][0]["content"]: set() for row in rows}
    for row in rows:
        pair = Pair(tuple(row["prompt"]), row["chosen"], row["rejected"], "", "")
        assert plan.without(row["fold"]).split.side(pair) == "held_out"
        folds[pair.first_turn].add(row["fold"])
    assert all(len(found) == 1 for found in folds.values())  # prompts are not cut


def test_strength_is_that_of_the_fold_s_own_members_in_plain_transformers(plan, rows):
    for fold in range(plan.folds):
        row = next(row for row in rows if row["fold"] == fold)
        margins = [plain_margin(plan.without(fold).member(index).out, row) for index in range(2)]
        # Measured in bf16 where the hardware multiplies in it.
        assert row["mean_diff"] == pytest.approx(np.mean(margins), abs=0.02)
        assert row["std_diff"] == pytest.approx(np.std(margins), abs=0.02)


def plain_margin(directory, row) -> float:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32)
    scores = []
    for response in (row["chosen"], row["rejected"]):
        messages = [*row["prompt"], {"role": "assistant", "content": response}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            scores.append(model(ids).logits.item())
    return scores[0] - scores[1]


def test_mislabelled_pairs_are_weak(rows):
    mean = np.array([row["mean_diff"] for row in rows])
    wrong = np.array([row["flipped"] for row in rows])
    assert auc_of_wrong_labels(mean, wrong) > 0.9
    assert all(row["std_diff"] > 0 for row in rows)


def test_the_file_trains_and_its_flips_are_mended(
    rows, plan, configure, noisy_pairs, tmp_path, capsys
):
    out = tmp_path / "mended.jsonl"
    strength = str(plan.out / "strength.jsonl")
    share = sum(row["flipped"] for row in rows) / len(rows)
    assert (
        relabel([strength, "--out", str(out), "--flip", f"0:{share:.4f}", "--wrong", "flipped"])
        == 0
    )
    assert "of 40 pairs; flip " in capsys.readouterr().out
    mended = [json.loads(line) for line in out.read_text().splitlines()]
    wrong = sum(("flip" in row["treatments"]) != row["flipped"] for row in mended)
    assert wrong < sum(row["flipped"] for row in rows)
    assert "share of right labels" in out.with_suffix(".svg").read_text()
    figures = json.loads(out.with_suffix(".json").read_text())["strength"]
    assert figures["auc"] > 0.9
    assert len(figures["deviations"]) == 20
    # Columns of the file's own are kept, and the trainer reads it.
    sources = [
        Source(name="mended", path=out, side="train"),
        Source(name="noisy", path=noisy_pairs, side="validation"),
    ]
    config = configure(tmp_path / "out", sources=sources, epochs=1)
    train(config)
    manifest, _ = checkpoint.read(config.out)
    assert manifest.training["pairs"] == len(mended)


def test_the_command_measures_with_members_that_are_there(plan, noisy_pairs, tmp_path):
    data = tmp_path / "data.yaml"
    data.write_text(
        f"sources: [{{name: noisy, path: {noisy_pairs}}}]\nsplit: {{validation: 0.3, test: 0.2}}\n"
    )
    members = [str(plan.without(0).member(i).out) for i in range(2)]
    out = tmp_path / "test.jsonl"
    main([str(data), "--members", *members, "--side", "test", "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows
    assert all({"mean_diff", "std_diff", "flipped"} <= row.keys() for row in rows)
    with pytest.raises(SettingsError, match="is memory"):
        main([str(data), "--members", *members, "--out", str(out)])
    with pytest.raises(ValueError, match=r"name the file \.jsonl"):
        main([str(data), "--members", *members, "--out", str(tmp_path / "test.jsonl.gz")])
    before = noisy_pairs.read_bytes()
    with pytest.raises(DataError, match=r"would be written over .*noisy\.jsonl"):
        main([str(data), "--members", *members, "--side", "test", "--out", str(noisy_pairs)])
    assert noisy_pairs.read_bytes() == before


def test_a_benchmark_is_not_written_as_pairs_to_train_on(plan, noisy_pairs, tmp_path):
    known = Source(name="known", path=noisy_pairs, side="benchmark")
    both = plan.model_copy(update={"sources": [*plan.sources, known], "out": tmp_path})
    with pytest.raises(DataError, match="known: a benchmark"):
        cross_fit(both)


def test_a_plan_whose_result_would_replace_a_source_is_refused(plan, noisy_pairs, tmp_path):
    given = shutil.copy(noisy_pairs, tmp_path / "strength.jsonl")
    sources = [Source(name="noisy", path=given)]
    with pytest.raises(DataError, match=r"would be written over .*strength\.jsonl"):
        cross_fit(plan.model_copy(update={"sources": sources, "out": tmp_path}))


def test_members_of_a_fold_are_those_of_the_plan_with_its_dropout(plan):
    plan = plan.model_copy(update={"dropout": 0.1})
    member = plan.without(1).member(0)
    assert (member.dropout, member.seed, member.split.fold.held_out) == (0.1, 1, 1)


def test_folds_share_one_file_of_frozen_states(configure, noisy_pairs, tmp_path):
    plan = configure(
        tmp_path / "out",
        StrengthPlan,
        sources=[Source(name="noisy", path=noisy_pairs)],
        folds=2,
        epochs=0.2,
        train_layers=1,
        trunk_cache=tmp_path / "trunk.safetensors",
        members=[MemberSettings(seed=seed, lr=3e-3) for seed in (1, 2)],
    )
    cross_fit(plan)  # a file made of other data would be refused
    assert len(list(tmp_path.glob("trunk*"))) == 1


@pytest.mark.parametrize(
    ("column", "said"), [("mean_diff", "a column 'mean_diff'"), ("fold", "a column 'fold'")]
)
def test_a_column_that_would_be_lost_is_refused_before_training(
    plan, noisy_pairs, tmp_path, column, said
):
    path = tmp_path / "rows.jsonl"
    rows = [json.loads(line) for line in noisy_pairs.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {column: 1.0}) + "\n" for row in rows))
    sources = [Source(name="noisy", path=path)]
    with pytest.raises(DataError, match=said):
        cross_fit(plan.model_copy(update={"sources": sources, "out": tmp_path / "out"}))
    assert not (tmp_path / "out").exists()


def test_a_plan_that_names_a_fold_is_refused(plan, configure, tmp_path):
    split = plan.without(0).split
    with pytest.raises(ValueError, match="leave it out"):
        configure(tmp_path, StrengthPlan, split=split, members=plan.members)


def test_a_head_that_saw_all_folds_is_refused_and_each_fold_may_fit_its_own(
    plan, configure, noisy_pairs, tmp_path
):
    with pytest.raises(ValueError, match="say probe, and each fold fits its own"):
        configure(tmp_path, StrengthPlan, head=tmp_path / "h", members=plan.members)
    probed = plan.model_copy(update={"probe": LinearProbe(), "epochs": 0.2, "out": tmp_path})
    rows = cross_fit(probed).read_text().splitlines()
    assert len(rows) == len((plan.out / "strength.jsonl").read_text().splitlines())
