"""``plaudit calibrate`` and ``calibration: length``: from scores to a checkpoint that serves."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from plaudit import checkpoint
from plaudit.checkpoint import CheckpointError
from plaudit.reward_model import RewardModel
from training.data.sources import Source, load
from training.evaluate.command import main as evaluate
from training.length_bias.command import main as calibrate
from training.length_bias.curve import fit
from training.measure import rewards, score_pairs
from training.settings import SettingsError
from training.train import train
from training.training_data import Data
from training.warm import warm


@pytest.fixture
def data_file(tmp_path: Path, pairs_file: Path) -> Path:
    path = tmp_path / "data.yaml"
    source = {"name": "demo", "path": str(pairs_file)}
    path.write_text(yaml.safe_dump({"sources": [source], "split": {"test": 0.3}}))
    return path


@pytest.fixture
def twin(tmp_path: Path, tiny_checkpoint: Path, data_file: Path) -> Path:
    out = tmp_path / "twin"
    calibrate([str(tiny_checkpoint), "--data", str(data_file), "--split", "all", "--out", str(out)])
    return out


def test_the_twin_is_the_same_model_with_another_reward(twin, tiny_checkpoint):
    found, revision = checkpoint.read(twin)
    known, other = checkpoint.read(tiny_checkpoint)
    assert (found.digests, found.probes) == (known.digests, known.probes)
    assert revision != other
    assert found.calibration.kind == "length"
    assert found.calibration.reference == "all side of demo"
    assert found.training["calibrated"] == {
        "of": str(tiny_checkpoint), "revision": other, "share": 0.5
    }  # fmt: skip
    assert RewardModel.load(twin).manifest == found


def test_correlations_before_and_after_are_printed(capsys, twin):
    assert "rewards  correlation with length" in capsys.readouterr().out


def test_an_evaluation_judges_what_is_served(twin, data_file, pairs_file, tmp_path):
    out = tmp_path / "report"
    evaluate([str(twin), "--data", str(data_file), "--split", "all", "--out", str(out),
              "--dtype", "float32"])  # fmt: skip
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    model = RewardModel.load(twin)
    for line, pair in zip(lines, load(Source(name="s", path=pairs_file)).pairs, strict=True):
        responses = (pair.chosen, pair.rejected)
        ids = [model.encoder.pair(pair.prompt, response) for response in responses]
        expected = [
            model.manifest.calibration.reward(score, len(response))
            for score, response in zip(model.score(ids).tolist(), responses, strict=True)
        ]
        assert line["scores"][twin.name] == pytest.approx(expected, abs=1e-4)


def test_training_and_averaging_keep_the_kind_of_calibration(configure, tmp_path):
    members = []
    for seed in (1, 2):
        config = configure(tmp_path / str(seed), epochs=1, seed=seed, calibration="length")
        train(config)
        members.append(config.out)
    warm(members, tmp_path / "warm")
    curves = [checkpoint.read(d)[0].calibration for d in (*members, tmp_path / "warm")]
    assert {curve.kind for curve in curves} == {"length"}
    assert len({curve.curve for curve in curves}) == 3  # each its own
    assert np.isfinite([height for curve in curves for _, height in curve.curve]).all()


def test_accuracies_are_of_what_is_served(configure, tmp_path):
    config = configure(tmp_path / "one", epochs=1, calibration="length")
    train(config)
    manifest, _ = checkpoint.read(config.out)
    model = RewardModel.load(config.out)
    pairs = Data.of(config, model.encoder).reference
    served = rewards(score_pairs(model, pairs), manifest.calibration, [one.pair for one in pairs])
    assert manifest.training["validation_accuracy"] == served.accuracy


def test_members_with_and_without_a_curve_are_not_averaged(configure, tmp_path):
    members = []
    for seed, kind in ((1, "length"), (2, "standardise")):
        config = configure(tmp_path / kind, epochs=1, seed=seed, calibration=kind)
        train(config)
        members.append(config.out)
    with pytest.raises(CheckpointError, match=r"calibration\.kind is standardise"):
        warm(members, tmp_path / "warm")


def test_a_benchmark_is_fitted_to_only_where_that_is_asked_for(
    tiny_checkpoint, data_file, pairs_file, tmp_path
):
    sources = [{"name": "demo", "path": str(pairs_file)}]
    sources.append({"name": "known", "path": str(pairs_file), "side": "benchmark"})
    data_file.write_text(yaml.safe_dump({"sources": sources}))
    command = [str(tiny_checkpoint), "--data", str(data_file), "--out", str(tmp_path / "twin")]
    with pytest.raises(SettingsError, match="known: a benchmark has no validation side"):
        calibrate(command)
    calibrate([*command, "--split", "all"])
    found = checkpoint.read(tmp_path / "twin")[0].calibration
    assert found.reference == "all side of demo, known"


def test_a_curve_through_few_responses_is_refused():
    with pytest.raises(SettingsError, match="more responses, or a larger share"):
        fit(np.arange(18.0), np.arange(18), share=0.5)


@pytest.mark.parametrize("share", ["0", "1.5"])
def test_a_share_that_is_none_is_refused(share, tiny_checkpoint, data_file, tmp_path):
    command = [str(tiny_checkpoint), "--data", str(data_file), "--out", str(tmp_path / "twin")]
    with pytest.raises(SettingsError, match="--share"):
        calibrate([*command, "--share", share])


def test_a_complete_directory_is_not_written_over(twin, tiny_checkpoint, data_file):
    with pytest.raises(SettingsError, match="choose another --out"):
        calibrate([str(tiny_checkpoint), "--data", str(data_file), "--out", str(twin)])
