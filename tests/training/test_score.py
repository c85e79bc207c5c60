"""``plaudit score`` by checkpoints and ensembles, and how far it finds responses apart."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from plaudit.conversation import Encoder
from training.data.jsonlines import DataError
from training.length_bias.command import main as calibrate
from training.measure import Measured
from training.score.command import main
from training.score.separation import separation
from training.settings import SettingsError, TrainSettings
from training.train import train

Score = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def score(tmp_path: Path) -> Score:
    """``score(scorer, data, "--flag", ...)`` runs the command in fp32 and returns its lines."""

    def run(scorer: Path, data: Path, *arguments: str) -> list[dict[str, Any]]:
        out = tmp_path / "scores.jsonl"
        fixed = [str(scorer), "--data", str(data), "--out", str(out), "--dtype", "float32"]
        assert main([*fixed, *arguments]) == 0
        return [json.loads(line) for line in out.read_text().splitlines()]

    return run


def figures(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "scores.json").read_text())
    return found


def plain_score(checkpoint: Path, prompt: Any, response: str) -> float:
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    ids = Encoder.load(checkpoint, 512).pair(prompt, response)
    with torch.inference_mode():
        return float(model(torch.tensor([ids])).logits.item())


LISTS = [
    {"prompt": "Hi", "responses": ["Hello", "Hey you", "No"], "better": [[0, 2]]},
    {"prompt": "Why", "responses": ["So", "   ", "Because"], "better": [[2, 0]]},
    "no row",
    {"prompt": "How", "responses": ["Thus", "Else"], "better": [[1, 0]]},
]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    path = tmp_path / "lists.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in LISTS))
    return path


def test_every_response_is_scored_in_order_as_by_plain_transformers(
    tmp_path: Path, tiny_checkpoint: Path, lists: Path, score: Score
):
    lines = score(tiny_checkpoint, lists, "--shape", "lists")
    assert [(line["line"], line["response"]) for line in lines] == [
        (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (4, 0), (4, 1)
    ]  # fmt: skip
    for line in lines:
        row = LISTS[line["line"] - 1]
        expected = plain_score(tiny_checkpoint, row["prompt"], row["responses"][line["response"]])
        assert line["score"] == pytest.approx(expected, abs=1e-4)
        assert line["reward"] == pytest.approx((expected - 0.5) / 2, abs=1e-4)
        assert "member_scores" not in line
    found = figures(tmp_path)
    assert found["refused_rows"] == {"lists": 1}
    assert found["separation"]["lists"][""]["pairs"] == 3


def test_what_cannot_be_scored_is_an_error_never_a_number(
    tmp_path: Path, tiny_checkpoint: Path, score: Score
):
    path = tmp_path / "long.jsonl"
    rows = [{"prompt": "Hi", "chosen": "x" * 600, "rejected": "y"}] * 2
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = score(tiny_checkpoint, path)
    assert [line["reward"] for line in lines[0::2]] == [None, None]
    assert lines[0]["error"]["type"] == "too-long"
    assert lines[1]["reward"] is not None
    assert figures(tmp_path)["errors"] == {"too-long": 2}
    assert figures(tmp_path)["separation"] == {}
    assert not (tmp_path / "scores.svg").exists()
    cut = score(tiny_checkpoint, path, "--truncation", "left")
    assert cut[0]["truncated"] > 0
    assert cut[0]["reward"] is not None


def test_an_ensemble_s_rewards_are_aggregates_of_its_members(
    tmp_path: Path, members: list[Path], pairs_file: Path, score: Score
):
    for member in members:
        shutil.copytree(member, tmp_path / member.name)
    path = tmp_path / "ensemble.yaml"
    path.write_text("members: [m2, m0, m1]\naggregate: uwo\ncoefficient: 0.25\n")
    alone = [score(tmp_path / name, pairs_file) for name in ("m2", "m0", "m1")]
    for line, *own in zip(score(path, pairs_file), *alone, strict=True):
        assert line["member_scores"] == pytest.approx([one["score"] for one in own], abs=1e-5)
        rewards = np.array([one["reward"] for one in own])
        expected = rewards.mean() - 0.25 * rewards.var(ddof=1)
        assert line["reward"] == pytest.approx(expected, abs=1e-4)
        assert "score" not in line


def test_a_length_curve_is_judged_by_its_rewards(
    tmp_path: Path, tiny_checkpoint: Path, pairs_file: Path, score: Score
):
    data, twin = tmp_path / "data.yaml", tmp_path / "twin"
    data.write_text(json.dumps({"sources": [{"name": "pairs", "path": str(pairs_file)}]}))
    calibrate([str(tiny_checkpoint), "--data", str(data), "--split", "all", "--out", str(twin)])
    before = tmp_path / "before.jsonl"
    score(tiny_checkpoint, pairs_file)
    (tmp_path / "scores.jsonl").rename(before)
    lines = score(twin, pairs_file, "--before", str(before))
    found = figures(tmp_path)
    chosen, rejected = (np.array([one["reward"] for one in lines[side::2]]) for side in (0, 1))
    own = found["separation"]["pairs"]["after"]
    assert own["accuracy"] == pytest.approx((chosen > rejected).mean())
    assert own["ks"] == pytest.approx(separation(Measured(chosen, rejected)).ks)
    assert own != found["separation"]["pairs"]["before"]


def test_distance_by_hand():
    found = separation(Measured(np.array([1.0, 2, 3, 4]), np.array([0.0, 0.5, 2.5, 3.5])))
    # half of the rejected lie below 1, none of the chosen
    assert (found.ks, found.accuracy, found.pairs) == (0.5, 1.0, 4)
    assert sum(found.chosen) == sum(found.rejected) == 4
    assert separation(Measured(np.arange(4.0), np.arange(4.0))).ks == 0


def test_training_sets_chosen_and_rejected_apart(
    tmp_path: Path,
    configure: Callable[..., TrainSettings],
    easy_pairs: Path,
    score: Score,
):
    untrained = configure(tmp_path / "untrained", lr=1e-9, epochs=0.2)
    train(untrained)
    train(configure(tmp_path / "trained"))
    before = tmp_path / "before.jsonl"
    score(untrained.out, easy_pairs)
    (tmp_path / "scores.jsonl").rename(before)
    score(tmp_path / "trained", easy_pairs, "--before", str(before))
    found = figures(tmp_path)["separation"]["easy"]
    assert found["after"]["ks"] > 0.9 > 0.7 > found["before"]["ks"]
    text = (tmp_path / "scores.svg").read_text()
    assert "easy, before: KS" in text
    assert "easy, after: KS" in text


def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, tiny_checkpoint: Path, lists: Path, pairs_file: Path, score: Score
):
    score(tiny_checkpoint, lists, "--shape", "lists")
    before = tmp_path / "before.jsonl"
    (tmp_path / "scores.jsonl").rename(before)
    with pytest.raises(DataError, match="score the same data"):
        score(tiny_checkpoint, pairs_file, "--before", str(before))
    with pytest.raises(SettingsError, match="--model"):
        score(tiny_checkpoint, pairs_file, "--model", "m0")
    with pytest.raises(DataError, match="two sources are named 'pairs'"):
        score(tiny_checkpoint, pairs_file, "--data", str(pairs_file), str(pairs_file))


def test_what_is_read_is_not_overwritten(
    tmp_path: Path, tiny_checkpoint: Path, lists: Path, score: Score
):
    data = tmp_path / "data.yaml"
    data.write_text(json.dumps({"sources": [{"name": "l", "path": str(lists), "shape": "lists"}]}))
    before = lists.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(lists)
    for given, out in ((lists, lists), (lists, tmp_path / "link.jsonl"), (data, lists)):
        with pytest.raises(DataError, match=r"would be written over .*lists\.jsonl, which is read"):
            score(tiny_checkpoint, given, "--shape", "lists", "--out", str(out))
    score(tiny_checkpoint, lists, "--shape", "lists")
    earlier = tmp_path / "scores.jsonl"
    with pytest.raises(DataError, match=r"would be written over .*scores\.jsonl"):
        score(tiny_checkpoint, lists, "--shape", "lists", "--before", str(earlier))
    assert lists.read_bytes() == before


def test_yaml_files_declare_columns_and_shapes(
    tmp_path: Path, tiny_checkpoint: Path, lists: Path, score: Score
):
    data = tmp_path / "data.yaml"
    data.write_text(json.dumps({"sources": [{"name": "l", "path": str(lists), "shape": "lists"}]}))
    assert {line["source"] for line in score(tiny_checkpoint, data)} == {"l"}
