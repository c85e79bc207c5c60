import html.parser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.stats
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification

from plaudit import checkpoint
from plaudit.calibration import Calibration
from plaudit.checkpoint import CheckpointError, Member
from plaudit.conversation import Encoder
from training.data.shapes import Pair
from training.evaluate.accuracy import (
    Estimate,
    accuracies,
    at_least,
    by_label,
    differences,
    is_right,
)
from training.evaluate.baselines import length_correlation, length_only
from training.evaluate.by_length import length_ranges
from training.evaluate.candidates import Ensemble, endings
from training.evaluate.command import main
from training.evaluate.evaluation import EvaluationError, check_finite, combined
from training.evaluate.figures import make_row, result
from training.evaluate.styles import DIFFICULTIES, shares
from training.measure import Measured, accuracy, rewards


def column(values: list[bool]) -> np.ndarray:
    return np.array(values)[:, None]


def pair(chosen: str, rejected: str) -> Pair:
    return Pair(({"role": "user", "content": "Q"},), chosen, rejected, "s", "c")


def test_interval_equals_the_binomial_when_prompts_are_distinct():
    right = column([True] * 70 + [False] * 30)
    found = accuracies(right, [str(i) for i in range(100)])[0]
    low, high = scipy.stats.binom.ppf([0.025, 0.975], 100, 0.7) / 100
    assert found.value == pytest.approx(0.7)
    assert (found.low, found.high) == (
        pytest.approx(low, abs=0.011),
        pytest.approx(high, abs=0.011),
    )


def test_interval_agrees_with_scipy():
    right = np.random.default_rng(3).random(200) < 0.6
    found = accuracies(right[:, None], [str(i) for i in range(200)])[0]
    oracle = scipy.stats.bootstrap(
        (right.astype(float),), np.mean, method="percentile", n_resamples=2000, rng=1
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(oracle), abs=0.011)


def test_copies_of_a_prompt_add_no_precision():
    once = [True] * 30 + [False] * 10
    prompts = [str(i) for i in range(40)]
    alone = accuracies(column(once), prompts)
    assert accuracies(column(once * 5), prompts * 5) == alone
    as_if_new = accuracies(column(once * 5), [str(i) for i in range(200)])[0]
    assert alone[0].high - alone[0].low > 1.8 * (as_if_new.high - as_if_new.low)


def test_paired_difference_cancels_what_both_rows_share():
    same = [True, False] * 50
    better = [*same[:-1], True]  # differs from `same` on the last pair alone
    right = np.stack([same, better], axis=1)
    baseline, found = differences(right, [str(i) for i in range(100)], baseline=0)
    assert (baseline.value, baseline.low, baseline.high) == (0, 0, 0)
    assert found.value == pytest.approx(0.01)
    assert (found.low, found.high) == (0, pytest.approx(0.03))  # the pair is drawn 0 to 3 times


def test_one_value_is_at_the_least_its_one_sided_bound():
    drawn = np.random.default_rng(0).normal(0.3, 0.1, 20_000)
    found = at_least(np.array([0.3]), drawn[:, None])
    assert found == pytest.approx([0.3 - 1.645 * 0.1], abs=0.005)


def test_of_many_values_that_are_nothing_few_samples_show_one():
    """27 values of mean 0, each sample with resamples around what it happens to be: with each value
    judged by itself half of all samples would show one of them, and together one in twenty does."""
    generator = np.random.default_rng(1)
    samples = generator.normal(size=(400, 27))
    shown = [
        bool((at_least(own, own + generator.normal(size=(1000, 27))) > 0).any()) for own in samples
    ]
    assert (samples > 1.96).any(axis=1).mean() > 0.4
    assert 0.02 < np.mean(shown) < 0.08


def test_copies_of_a_value_cost_nothing():
    drawn = np.random.default_rng(2).normal(size=(1000, 1))
    once = at_least(np.zeros(1), drawn)
    assert at_least(np.zeros(9), np.repeat(drawn, 9, axis=1)) == pytest.approx(np.repeat(once, 9))


def test_a_tie_is_wrong():
    chosen, rejected = np.array([1.0, 2.0, 2.0]), np.array([0.0, 2.0, 3.0])
    assert is_right(chosen, rejected).tolist() == [True, False, False]
    assert is_right(chosen, rejected).mean() == accuracy(chosen - rejected)


def test_categories_are_measured_apart():
    right = column([True, True, False, False])
    found = by_label(right, ["a", "b", "a", "b"], ["y", "y", "x", "y"])
    assert list(found) == ["x", "y"]
    assert {name: estimate.value for name, [estimate] in found.items()} == {
        "x": 0.0,
        "y": pytest.approx(2 / 3),
    }


def test_pairs_are_grouped_by_their_longer_response():
    lengths = [5, 900, 12, 13, 1, 2, 300, 400, 50, 60]
    pairs = [pair("x" * n, "y") for n in lengths[:5]] + [pair("x", "y" * n) for n in lengths[5:]]
    ranges = length_ranges(pairs)
    assert all(low <= length <= high for (low, high), length in zip(ranges, lengths, strict=True))
    assert sorted(set(ranges)) == [(1, 2), (5, 12), (13, 50), (60, 300), (400, 900)]


def test_pairs_of_one_length_are_one_group():
    assert length_ranges([pair("abc", "d")] * 7) == [(3, 3)] * 7


def test_margins_are_drawn_on_the_side_where_they_count():
    measured = Measured(np.array([0.0, 1.0, 5.0]), np.array([0.0, 4.0, 1.0]))
    row = make_row("m", "single", "score", [measured])
    found = result(
        "plaudit",
        [pair("a", "b")] * 3,
        {"m": measured, "length-only": measured},
        [row, make_row("length-only", "baseline", "characters", [measured])],
        {},
    ).figures["m"]
    middle = row.margin_edges.index(0)
    assert sum(found.margins[:middle]) == 2  # the tie and the wrong pair
    assert sum(found.margins[middle:]) == 1
    assert found.ties == 1


def test_length_only_prefers_the_longer_in_characters_and_loses_ties():
    found = length_only([pair("aaa", "bb"), pair("é", "bb"), pair("cc", "dd")])
    assert found.chosen.tolist() == [3, 1, 2]
    assert found.rejected.tolist() == [2, 2, 2]
    assert found.accuracy == pytest.approx(1 / 3)


def test_length_correlation_by_hand():
    pairs = [pair("a", "bb"), pair("ccc", "dddd")]
    rising = Measured(np.array([0.0, 2.0]), np.array([1.0, 9.0]))
    # ranks 1 2 4 3 against 1 2 3 4: 1 - 6 * 2 / (4 * 15)
    swapped = Measured(np.array([0.0, 9.0]), np.array([1.0, 2.0]))
    assert length_correlation(rising, pairs) == pytest.approx(1)
    assert length_correlation(swapped, pairs) == pytest.approx(0.8)
    assert length_correlation(Measured(np.zeros(2), np.zeros(2)), pairs) is None


def test_ensemble_combines_rewards_not_scores():
    rows = {
        "a": Measured(np.array([10.0]), np.array([30.0])),
        "b": Measured(np.array([2.0]), np.array([-1.0])),
    }
    calibrations = {
        "a": Calibration("standardise", mean=20, std=10),  # rewards -1 and 1
        "b": Calibration("standardise", mean=0, std=1),  # rewards 2 and -1
    }
    pairs = [pair("chosen", "rejected")]
    rewarded = {name: rewards(rows[name], calibrations[name], pairs) for name in rows}
    ens = Ensemble("ens", Path("e"), ("a", "b"), "mean", 0.5, 2)
    mean = combined(ens, rewarded)
    assert (mean.chosen[0], mean.rejected[0]) == (pytest.approx(0.5), pytest.approx(0.0))
    # uwo: sample variances 4.5 and 2
    ens = Ensemble("ens", Path("e"), ("a", "b"), "uwo", 0.5, 2)
    uwo = combined(ens, rewarded)
    assert (uwo.chosen[0], uwo.rejected[0]) == (pytest.approx(-1.75), pytest.approx(-1.0))


def test_names_are_the_shortest_endings_that_differ():
    assert endings([Path("/runs/x/m0"), Path("/runs/x/m1")]) == ["m0", "m1"]
    assert endings([Path("/runs/x/m0"), Path("/runs/y/m0")]) == ["x/m0", "y/m0"]
    assert endings([Path("/runs/ens")]) == ["runs/ens"]


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(EvaluationError, match=r"m: 1 pairs of s .* --dtype float32"):
        check_finite(Measured(np.array([np.nan, 1.0]), np.zeros(2)), "m", "s")


def copy_with(source: Path, directory: Path, **changes: Any) -> Path:
    """A copy of a checkpoint whose manifest differs in ``changes``."""
    shutil.copytree(source, directory)
    manifest, _ = checkpoint.read(source)
    checkpoint.write(directory, msgspec.structs.replace(manifest, **changes))
    return directory


@pytest.fixture
def data_file(tmp_path: Path, pairs_file: Path) -> Path:
    path = tmp_path / "eval.yaml"
    source = {"name": "<b>demo</b>", "path": str(pairs_file)}
    path.write_text(yaml.safe_dump({"sources": [source], "split": {"test": 0.5}}))
    return path


@pytest.fixture
def ensemble(tmp_path: Path, members: list[Path]) -> Path:
    """An ensemble file beside copies of its members."""
    for member in members:
        shutil.copytree(member, tmp_path / member.name)
    path = tmp_path / "ensemble.yaml"
    path.write_text("members: [m0, m1, m2]\naggregate: uwo\ncoefficient: 0.25\n")
    return path


Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluate(tmp_path: Path, data_file: Path) -> Evaluate:
    """``evaluate(path, "--flag", ...)`` runs the command in fp32 and returns evaluation.json."""

    def run(*arguments: str | Path) -> dict[str, Any]:
        out = tmp_path / "out"
        fixed = ["--data", str(data_file), "--out", str(out), "--dtype", "float32"]
        assert main([*fixed, *map(str, arguments)]) == 0
        found: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
        return found

    return run


def score_lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]


def test_reports_members_ens_warm_and_length_only(
    tmp_path: Path, ensemble: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
):
    warm = copy_with(tmp_path / "m0", tmp_path / "warm", kind="warm")
    found = evaluate(warm, ensemble, tmp_path / "m1")
    rows = {row["name"]: row["kind"] for row in found["rows"]}
    assert list(rows.items()) == [
        ("m0", "single"), ("m1", "single"), ("m2", "single"),
        ("ens", "ens"), ("warm", "warm"), ("length-only", "baseline"),
    ]  # fmt: skip
    source = found["sources"]["<b>demo</b>"]
    lines = score_lines(tmp_path)
    assert source["pairs"] == len(lines)
    assert source["prompts"] == len({line["prompt"] for line in lines}) == len(lines) // 2
    assert {n: c["pairs"] for n, c in source["categories"].items()} == {
        "even": len(lines) // 2, "odd": len(lines) // 2
    }  # fmt: skip
    fifths = source["lengths"].values()
    assert sum(fifth["pairs"] for fifth in fifths) == len(lines)
    for name in rows:
        right = sum(fifth["accuracy"][name]["value"] * fifth["pairs"] for fifth in fifths)
        assert right / len(lines) == pytest.approx(source["figures"][name]["accuracy"]["value"])
        wins = [line["scores"][name][0] > line["scores"][name][1] for line in lines]
        figures = source["figures"][name]
        assert figures["accuracy"]["value"] == pytest.approx(np.mean(wins))
        assert figures["accuracy"]["low"] <= np.mean(wins) <= figures["accuracy"]["high"]
        assert sum(figures["chosen"]) == sum(figures["margins"]) == len(lines)
    assert source["figures"]["warm"]["accuracy"] == source["figures"]["m0"]["accuracy"]
    assert capsys.readouterr().out == (tmp_path / "out" / "table.md").read_text()
    assert found["provenance"]["checkpoints"][0]["revision"] == checkpoint.read(warm)[1]


def test_ens_row_is_the_aggregate_of_calibrated_rewards(
    tmp_path: Path, ensemble: Path, evaluate: Evaluate
):
    evaluate(ensemble)
    for line in score_lines(tmp_path):
        scores = np.array([line["scores"][name] for name in ("m0", "m1", "m2")])
        rewards = (scores - 0.5) / 2  # the calibration of the fixture's members
        expected = rewards.mean(axis=0) - 0.25 * rewards.var(axis=0, ddof=1)
        assert line["scores"]["ens"] == pytest.approx(expected.tolist())


def test_ens_row_around_a_centre_is_the_centre_less_the_members_disagreement(
    tmp_path: Path, ensemble: Path, evaluate: Evaluate
):
    own = Calibration("standardise", mean=1.0, std=4.0)
    copy_with(tmp_path / "m2", tmp_path / "warm", kind="warm", calibration=own)
    ensemble.write_text(
        "members: [m0, m1]\naggregate: uwo\ncoefficient: 0.25\ncentre: warm\nmin_members: 1\n"
    )
    found = evaluate(ensemble)
    for line in score_lines(tmp_path):
        rewards = (np.array([line["scores"][name] for name in ("m0", "m1")]) - 0.5) / 2
        centre = (np.array(line["scores"]["warm"]) - 1.0) / 4
        expected = centre - 0.25 * rewards.var(axis=0, ddof=1)
        assert line["scores"]["ens"] == pytest.approx(expected.tolist())
    [said] = found["provenance"]["ensembles"]
    assert (said["members"], said["centre"]) == (["m0", "m1"], "warm")
    assert "ens" in found["sources"]["<b>demo</b>"]["disagreement"]


def test_objectives_row_is_the_weighted_sum_of_calibrated_rewards(
    tmp_path: Path, ensemble: Path, evaluate: Evaluate
):
    other = Calibration("standardise", mean=-1.0, std=0.25)
    copy_with(tmp_path / "m1", tmp_path / "harmless", calibration=other)
    bundle = tmp_path / "balanced.yaml"
    bundle.write_text(
        "objectives: {kind: {member: m0, weight: 2}, safe: {member: harmless, weight: 0.5}}\n"
    )
    found = evaluate(bundle, ensemble)
    assert [(row["name"], row["kind"]) for row in found["rows"][-3:]] == [
        ("ens ensemble.yaml", "ens"), ("objectives balanced.yaml", "objectives"),
        ("length-only", "baseline"),
    ]  # fmt: skip
    [said] = found["provenance"]["bundles"]
    assert (said["members"], said["weights"]) == (["m0", "harmless"], {"kind": 2, "safe": 0.5})
    for line in score_lines(tmp_path):
        kind, safe = (np.array(line["scores"][name]) for name in ("m0", "harmless"))
        expected = 2 * (kind - 0.5) / 2 + 0.5 * (safe + 1) / 0.25
        assert line["scores"]["objectives balanced.yaml"] == pytest.approx(expected.tolist())


def test_scores_are_those_of_plain_transformers(
    tmp_path: Path, tiny_checkpoint: Path, pairs_file: Path, evaluate: Evaluate
):
    evaluate(tiny_checkpoint, "--split", "all")
    row = json.loads(pairs_file.read_text().splitlines()[0])
    ids = Encoder.load(tiny_checkpoint, 512).pair(row["prompt"], row["chosen"])
    model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint)
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits.item()
    lines = score_lines(tmp_path)
    assert len(lines) == 60
    assert lines[0]["scores"]["m0"][0] == pytest.approx(expected, abs=1e-4)


def test_checkpoints_that_share_blocks_get_the_scores_they_get_apart(
    tmp_path: Path,
    tiny_checkpoint: Path,
    members: list[Path],
    retrained_top: Callable[[Path, Path], Path],
    evaluate: Evaluate,
):
    top = retrained_top(tmp_path / "top", tiny_checkpoint)
    evaluate(top)
    apart = [line["scores"]["top"] for line in score_lines(tmp_path)]
    evaluate(tiny_checkpoint, top, members[1])
    lines = score_lines(tmp_path)
    assert [line["scores"]["top"] for line in lines] == [pytest.approx(s, abs=1e-5) for s in apart]
    assert all(line["scores"]["top"] != line["scores"]["m0"] for line in lines)


def test_no_text_of_a_pair_is_written(tmp_path: Path, ensemble: Path, evaluate: Evaluate):
    evaluate(ensemble)
    for name in ("scores.jsonl", "evaluation.json", "evaluation.html", "table.md"):
        text = (tmp_path / "out" / name).read_text()
        assert "Question number" not in text
        assert "because it is so" not in text


class Page(html.parser.HTMLParser):
    """Every tag, id and attribute that could load something."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href", "xlink:href") and not str(value).startswith("#"):
                self.loads.append(str(value))


def test_page_is_self_contained_and_escaped(
    tmp_path: Path, tiny_checkpoint: Path, evaluate: Evaluate
):
    evaluate(tiny_checkpoint)
    text = (tmp_path / "out" / "evaluation.html").read_text()
    page = Page(text)
    assert page.loads == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", text)
    assert page.tags.count("svg") == 6  # scores and margins of both rows; length, reliability
    assert "<b>demo</b>" not in text
    assert "&lt;b&gt;demo&lt;/b&gt;" in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"#0[123]0[123]0[123]", text)


def test_overlong_pairs_are_cut_and_counted_or_dropped_for_every_row(
    tmp_path: Path, tiny_checkpoint: Path, evaluate: Evaluate
):
    short = copy_with(tiny_checkpoint, tmp_path / "short", max_tokens=64)  # pairs have 63 to 65
    cut = evaluate(tiny_checkpoint, short)
    counts = {c["name"]: c["cut_pairs"]["<b>demo</b>"] for c in cut["provenance"]["checkpoints"]}
    pairs = cut["sources"]["<b>demo</b>"]["pairs"]
    assert counts["m0"] == 0
    assert 0 < counts["short"] < pairs
    dropped = evaluate(tiny_checkpoint, short, "--overlong", "drop")
    assert dropped["sources"]["<b>demo</b>"]["pairs"] == pairs - counts["short"]
    assert dropped["provenance"]["data"]["<b>demo</b>"]["dropped_pairs"] == counts["short"]


@pytest.mark.parametrize("overlong", ["cut", "drop"])
def test_a_lower_limit_measures_as_if_it_were_the_models_own(
    tmp_path: Path, tiny_checkpoint: Path, evaluate: Evaluate, overlong: str
):
    short = copy_with(tiny_checkpoint, tmp_path / "m0", max_tokens=64)
    lower = evaluate(tiny_checkpoint, "--overlong", overlong, "--max-tokens", "64")
    assert lower["sources"] == evaluate(short, "--overlong", overlong)["sources"]
    assert lower["sources"] != evaluate(tiny_checkpoint, "--overlong", overlong)["sources"]
    higher = evaluate(short, "--overlong", overlong, "--max-tokens", "100")
    assert higher["sources"] == lower["sources"]


def test_accuracy_by_tokens_is_that_of_an_evaluation_without_longer_pairs(
    tmp_path: Path, data_file: Path, tiny_checkpoint: Path, evaluate: Evaluate
):
    short = evaluate(tiny_checkpoint, "--overlong", "drop", "--max-tokens", "64")
    every = evaluate(tiny_checkpoint)
    arguments = [tmp_path / "out", "--data", data_file, "--tokenizer", tiny_checkpoint, "--to"]
    printed = subprocess.run(
        [sys.executable, "examples/real/by_tokens.py", *map(str, arguments), "64"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    name, _, _, shorter, longer, total = printed.splitlines()
    assert name == "<b>demo</b>"
    for line, found in ((shorter, short), (total, every)):
        source = found["sources"][name]
        accuracies = [f"{Estimate(**one['accuracy']):.3f}" for one in source["figures"].values()]
        assert line.strip("| ").split(" | ")[1:] == [str(source["pairs"]), *accuracies]
    assert longer.startswith("| 65 to 65 |")


def test_overrides_and_max_pairs_choose_the_pairs(tiny_checkpoint: Path, evaluate: Evaluate):
    found = evaluate(tiny_checkpoint, "split.test=0.9", "--split", "validation")
    assert found["provenance"]["split"]["test"] == 0.9
    assert found["provenance"]["side"] == "validation"
    assert found["sources"]["<b>demo</b>"]["pairs"] < 15


def test_a_plain_model_is_evaluated(
    tmp_path: Path, tokenizer: Any, save_plain: Callable[..., Path], evaluate: Evaluate
):
    found = evaluate(save_plain(tmp_path / "plain", tokenizer, 5))
    assert found["rows"][0]["kind"] == "plain"


def test_rm_bench_is_reported_by_difficulty_beside_length(
    tmp_path: Path, data_file: Path, tiny_checkpoint: Path, evaluate: Evaluate
):
    rows = [
        {
            "prompt": f"Question number {i}?",
            "chosen_styles": [f"Yes {i}.", f"Yes {i}, so it is.", f"**Yes {i}**, so it really is."],
            "rejected_styles": [f"No {i}.", f"No {i}, it is not.", f"**No {i}**, it is never."],
        }
        for i in range(8)
    ]
    path = tmp_path / "styles.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = yaml.safe_load(data_file.read_text())
    data["sources"] = [{"name": "styles", "path": str(path), "shape": "rm_bench"}]
    data_file.write_text(yaml.safe_dump(data))
    found = evaluate(tiny_checkpoint)["sources"]["styles"]
    assert found["pairs"] == 72
    scores = np.array([line["scores"]["m0"] for line in score_lines(tmp_path)]).reshape(8, 3, 3, 2)
    expected = shares(scores[:, :, 0, 0], scores[:, 0, :, 1]).mean(axis=0)
    for name, value in zip(DIFFICULTIES, expected, strict=True):
        figure = found["benchmark"][name]
        assert figure["rows"]["m0"]["value"] == pytest.approx(value)
        assert figure["rows"]["m0"]["low"] <= value <= figure["rows"]["m0"]["high"]
    assert found["benchmark"]["easy"]["rows"]["length-only"]["value"] == 1
    assert found["benchmark"]["hard"]["rows"]["length-only"]["value"] == 0
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "<th>concise over markdown</th>" in page
    assert "2410.16184" in page
    assert "The test side of 1 source, of benchmarks all, scored" in page


def test_rows_are_compared_and_members_disagreement_is_measured(
    tmp_path: Path, ensemble: Path, evaluate: Evaluate
):
    found = evaluate(ensemble)["sources"]["<b>demo</b>"]
    scores = [line["scores"] for line in score_lines(tmp_path)]
    right = {name: np.array([one[name][0] > one[name][1] for one in scores]) for name in scores[0]}
    assert len(found["paired"]) == 5 * 4 / 2
    for one in found["paired"]:
        first, second = right[one["first"]], right[one["second"]]
        assert one["only_first"] == sum(first & ~second)
        assert one["difference"]["value"] == pytest.approx(second.mean() - first.mean())
        assert one["difference"]["low"] <= one["difference"]["value"] <= one["difference"]["high"]
    margins = np.array([[one[m][0] - one[m][1] for one in scores] for m in ("m0", "m1", "m2")]) / 2
    levels = found["disagreement"]["ens"]["levels"]
    assert sum(level["pairs"] * level["disagreement"] for level in levels) == pytest.approx(
        margins.std(axis=0, ddof=1).sum(), rel=1e-4
    )
    assert sum(level["pairs"] * level["accuracy"] for level in levels) == pytest.approx(
        sum(right["ens"])
    )
    assert found["figures"]["ens"]["reliability"] is None
    assert found["figures"]["m0"]["reliability"]["ece"] > 0


def test_the_worst_mistakes_are_named_by_line_and_shown_only_when_asked(
    tmp_path: Path, pairs_file: Path, tiny_checkpoint: Path, evaluate: Evaluate
):
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    for row in rows:
        row["rejected"] += " <script>alert(1)</script>"
    pairs_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = tmp_path / "out" / "evaluation.html"
    found = evaluate(tiny_checkpoint, "--split", "all")["sources"]["<b>demo</b>"]["figures"]["m0"]
    assert "alert" not in page.read_text()
    scores = [line["scores"]["m0"] for line in score_lines(tmp_path)]
    margins = sorted((c - r, line) for line, (c, r) in enumerate(scores, start=1) if c < r)
    assert [one["line"] for one in found["mistakes"]] == [line for _, line in margins[:10]]
    assert found["mistakes"][0]["rejected_length"] == len(rows[margins[0][1] - 1]["rejected"])
    evaluate(tiny_checkpoint, "--split", "all", "--show-mistakes", "2")
    text = page.read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    for _, line in margins[:2]:
        assert f"<h4>Line {line}</h4>" in text
    assert "alert" not in (tmp_path / "out" / "evaluation.json").read_text()


def test_a_checkpoint_evaluated_alone_gets_a_model_card(
    tmp_path: Path,
    tiny_checkpoint: Path,
    trained_members: list[Path],
    ensemble: Path,
    evaluate: Evaluate,
):
    found = evaluate(trained_members[0])
    path = tmp_path / "out" / "model-card.md"
    card = ModelCard(path.read_text())
    (result,) = card.data.eval_results
    figures = found["sources"]["<b>demo</b>"]["figures"][trained_members[0].name]
    assert result.metric_value == pytest.approx(figures["accuracy"]["value"], abs=1e-4)
    assert card.data.base_model is None  # a directory of this machine is no model of the hub
    manifest, revision = checkpoint.read(trained_members[0])
    assert revision in card.text
    assert str(Path(manifest.base.id).parent) not in card.content
    assert str(tmp_path) not in card.content
    assert manifest.training["data"]["easy"] in card.text
    assert "length-only" in card.text
    assert "| 5 % | 10 % |" in card.text
    assert all(f" {quantile:.3g} |" in card.text for quantile in manifest.stats.quantiles)
    evaluate(tiny_checkpoint)
    assert "The checkpoint does not say." in path.read_text()
    assert "no statistics" in path.read_text()
    evaluate(ensemble)
    assert not path.exists()


@pytest.fixture
def average(tmp_path: Path, data_file: Path, easy_pairs: Path, ensemble_plan, trained_members):
    """An average of one member, and in ``data_file`` the pairs and the split of its training."""
    source = {"name": "easy", "path": str(easy_pairs)}
    split = ensemble_plan.split.model_dump()
    data_file.write_text(yaml.safe_dump({"sources": [source], "split": split}))
    own = trained_members[0]
    members = [Member(str(own), checkpoint.read(own)[1], 1.0)]
    return copy_with(own, tmp_path / "average", kind="warm", training={}, members=members)


@pytest.mark.parametrize("side", ["test", "train"])
def test_prompts_that_a_checkpoint_was_trained_on_are_counted_and_said(
    tmp_path: Path, average: Path, trained_members: list[Path], evaluate: Evaluate, capsys, side
):
    for path in (average, trained_members[0]):
        found = evaluate(path, "--split", side)
        pairs = found["sources"]["easy"]["pairs"] if side == "train" else 0
        expected = {"pairs": {"easy": pairs}, "unknown": None}
        assert found["provenance"]["trained_on"] == {path.name: expected}
        card = (tmp_path / "out" / "model-card.md").read_text()
        said = f"{pairs} of {pairs} pairs of easy have prompts on the train side"
        assert [said in text for text in (capsys.readouterr().err, card)] == [side == "train"] * 2
        assert ("No pair, benchmarks aside, has a prompt on the train side" in card) == (not pairs)


def test_where_a_checkpoint_does_not_say_what_it_saw_nothing_is_claimed(
    tmp_path: Path, tiny_checkpoint: Path, evaluate: Evaluate, capsys
):
    found = evaluate(tiny_checkpoint)
    (seen,) = found["provenance"]["trained_on"].values()
    assert "does not say what it was trained on" in seen["unknown"]
    assert "nobody can tell" in capsys.readouterr().err
    card = (tmp_path / "out" / "model-card.md").read_text()
    assert "nobody can tell" in card
    assert "No pair, benchmarks aside" not in card


def test_what_would_mislead_is_refused(
    tmp_path: Path, ensemble: Path, data_file: Path, evaluate: Evaluate
):
    with pytest.raises(CheckpointError, match="neither a checkpoint directory nor an ensemble"):
        evaluate(tmp_path / "absent")
    with pytest.raises(EvaluationError, match=r"no pair is on the test side.*--split all"):
        evaluate(tmp_path / "m0", "split.test=0")
    (tmp_path / "typo.yaml").write_text("members: [m0]\nagregate: mean\n")
    with pytest.raises(CheckpointError, match="unknown field"):
        evaluate(tmp_path / "typo.yaml")
    copy_with(tmp_path / "m0", tmp_path / "bare", calibration=Calibration())
    ensemble.write_text("members: [bare, m1]\n")
    with pytest.raises(CheckpointError, match="bare not calibrated"):
        evaluate(ensemble)
    data = yaml.safe_load(data_file.read_text())
    data_file.write_text(yaml.safe_dump(data | {"sources": data["sources"] * 2}))
    with pytest.raises(EvaluationError, match="two sources are named"):
        evaluate(tmp_path / "m0")
