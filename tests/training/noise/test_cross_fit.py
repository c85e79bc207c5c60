"""Strength of noisy pairs by tiny models that never saw them, and what is refused."""

import json

import numpy as np
import pytest

from plaudit import checkpoint
from training.data.shapes import Pair
from training.data.sources import Source, load
from training.noise.cross_fit import StrengthPlan, cross_fit, main, refuse_in_sample
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
        assert plan.fold(row["fold"]).split.side(pair) == "held_out"
        folds[pair.first_turn].add(row["fold"])
    assert all(len(found) == 1 for found in folds.values())  # prompts are not cut


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
    assert "'flip':" in capsys.readouterr().out
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


def test_members_that_saw_the_pairs_are_refused(plan, rows):
    pairs = [Pair(tuple(r["prompt"]), r["chosen"], r["rejected"], "", "") for r in rows]
    own = [pair for pair in pairs if plan.fold(0).split.side(pair) == "held_out"]
    member = plan.fold(0).member(0).out
    refuse_in_sample(member, own)
    with pytest.raises(SettingsError, match=f"prompts of {len(pairs) - len(own)} of {len(pairs)}"):
        refuse_in_sample(member, pairs)


def test_a_member_whose_base_saw_the_pairs_is_refused(plan, rows, configure, tmp_path, noisy_pairs):
    base = plan.fold(0).member(0).out
    sources = [Source(name="noisy", path=noisy_pairs)]
    # Its own train side is empty of the pairs: all its test.
    split = plan.split.model_copy(update={"test": 0.1, "validation": 0.8})
    config = configure(tmp_path / "out", model=str(base), sources=sources, split=split, epochs=0.25)
    train(config)
    pairs = [Pair(tuple(r["prompt"]), r["chosen"], r["rejected"], "", "") for r in rows]
    unseen = [pair for pair in pairs if split.side(pair) != "train"]
    with pytest.raises(SettingsError, match=base.name):
        refuse_in_sample(config.out, unseen)


def test_the_command_measures_with_members_that_are_there(plan, noisy_pairs, tmp_path):
    data = tmp_path / "data.yaml"
    data.write_text(
        f"sources: [{{name: noisy, path: {noisy_pairs}}}]\nsplit: {{validation: 0.3, test: 0.2}}\n"
    )
    members = [str(plan.fold(0).member(i).out) for i in range(2)]
    out = tmp_path / "test.jsonl"
    main([str(data), "--members", *members, "--side", "test", "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows
    assert all({"mean_diff", "std_diff", "flipped"} <= row.keys() for row in rows)
    with pytest.raises(SettingsError, match="is memory"):
        main([str(data), "--members", *members, "--out", str(out)])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--flip", "0.2:0.1"], "LOW below HIGH"),
        (["--flip", "0:0.1=1"], "write LOW:HIGH"),
        (["--margin", "0:1"], "write LOW:HIGH=SCALE"),
        (["--smooth", "0:1=1"], "between 0 and 1"),
        (["--flip", "0:0.2", "--drop", "0.1:0.3"], "overlap"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(plan, tmp_path, option, said):
    out = tmp_path / "out.jsonl"
    with pytest.raises(ValueError, match=said):
        relabel([str(plan.out / "strength.jsonl"), "--out", str(out), *option])
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_strength_is_refused_with_its_line(noisy_pairs, tmp_path):
    with pytest.raises(ValueError, match="line 1: no column mean_diff, std_diff"):
        relabel([str(noisy_pairs), "--out", str(tmp_path / "out.jsonl")])
