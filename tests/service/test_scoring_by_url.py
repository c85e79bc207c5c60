"""``plaudit score`` by a running service gives what the checkpoint gives in its own process."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from plaudit import checkpoint
from plaudit.calibration import Calibration
from training.score.command import main
from training.score.served import ServiceError


def run(scorer: str | Path, data: Path, out: Path, *arguments: str) -> list[dict[str, Any]]:
    fixed = ["--data", str(data), "--out", str(out), "--dtype", "float32"]
    assert main([str(scorer), *fixed, *arguments]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def alike(served: list[dict[str, Any]], local: list[dict[str, Any]]) -> None:
    assert len(served) == len(local) > 0
    for one, other in zip(served, local, strict=True):
        assert one.keys() == other.keys()
        assert one["reward"] == pytest.approx(other["reward"], abs=1e-5)
        assert one.get("score") == pytest.approx(other.get("score"), abs=1e-5)
        assert one.get("member_scores") == pytest.approx(other.get("member_scores"), abs=1e-5)
        assert one.get("centre_score") == pytest.approx(other.get("centre_score"), abs=1e-5)
        assert one.get("error") == other.get("error")
        assert one.get("failed") == other.get("failed")


def test_a_served_model_scores_as_its_checkpoint(
    listen: Any, tmp_path: Path, tiny_checkpoint: Path, pairs_file: Path
):
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    rows[3]["rejected"] = "x" * 600  # over the limit
    pairs_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    local = run(tiny_checkpoint, pairs_file, tmp_path / "local.jsonl")
    with listen(models=[str(tiny_checkpoint)]) as url:
        served = run(url, pairs_file, tmp_path / "served.jsonl")
    alike(served, local)
    assert served[7]["error"]["type"] == "too-long"
    figures = [json.loads((tmp_path / f"{n}.json").read_text()) for n in ("local", "served")]
    assert figures[0]["scorer"]["revision"] == figures[1]["scorer"]["revision"]
    assert figures[0]["errors"] == figures[1]["errors"] == {"too-long": 1}


def test_a_served_length_curve_sets_responses_as_far_apart_as_its_checkpoint(
    listen: Any, tmp_path: Path, tiny_checkpoint: Path, pairs_file: Path
):
    manifest, _ = checkpoint.read(tiny_checkpoint)
    # As steep as this, it changes which response is ahead.
    curve = Calibration("length", mean=0.5, std=2.0, curve=((1.0, 0.0), (100.0, 50.0)))
    twin = shutil.copytree(tiny_checkpoint, tmp_path / "twin")
    checkpoint.write(twin, msgspec.structs.replace(manifest, calibration=curve))
    run(tiny_checkpoint, pairs_file, tmp_path / "bare.jsonl")
    by_file = run(twin, pairs_file, tmp_path / "local.jsonl")
    with listen(models=[str(twin)]) as url:
        alike(run(url, pairs_file, tmp_path / "served.jsonl"), by_file)
    bare, local, served = (
        json.loads((tmp_path / f"{name}.json").read_text())["separation"]["pairs"][""]
        for name in ("bare", "local", "served")
    )
    assert [served[figure] for figure in ("ks", "accuracy")] == [local["ks"], local["accuracy"]]
    assert local["ks"] != bare["ks"]


def test_a_served_ensemble_scores_as_its_file(
    listen: Any, tmp_path: Path, ensemble_file: Path, pairs_file: Path
):
    local = run(ensemble_file, pairs_file, tmp_path / "local.jsonl")
    with listen(models=[str(ensemble_file)]) as url:
        names = "ens"
        alike(run(url, pairs_file, tmp_path / "served.jsonl", "--model", names), local)
        with pytest.raises(ServiceError, match="say which model scores: --model with one of"):
            run(url, pairs_file, tmp_path / "served.jsonl", "--model", "other")
    figures = [json.loads((tmp_path / f"{n}.json").read_text()) for n in ("local", "served")]
    assert figures[0]["scorer"]["revision"] == figures[1]["scorer"]["revision"]


def test_a_served_ensemble_around_its_average_scores_as_its_file_without_a_member_too(
    listen: Any, tmp_path: Path, leaky_file: Path, pairs_file: Path
):
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    rows[3]["rejected"] = "x" * 120  # over the limit of one member
    rows[4]["rejected"] = "x" * 250  # and over that of the centre too
    pairs_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    local = run(leaky_file, pairs_file, tmp_path / "local.jsonl")
    with listen(models=[str(leaky_file)]) as url:
        served = run(url, pairs_file, tmp_path / "served.jsonl", "--model", "leaky")
    alike(served, local)
    assert served[7]["member_scores"][0] is None
    assert served[7]["failed"].keys() == {"short"}
    assert served[7]["reward"] is not None
    assert served[9]["error"]["detail"].endswith("the limit is 200")  # the centre's own
    figures = [json.loads((tmp_path / f"{n}.json").read_text()) for n in ("local", "served")]
    assert figures[0]["scorer"]["revision"] == figures[1]["scorer"]["revision"]
    assert figures[0]["degraded"] == figures[1]["degraded"] == 1


def test_a_served_bundle_scores_as_its_file(
    listen: Any, tmp_path: Path, members: list[Path], pairs_file: Path
):
    path = tmp_path / "both.yaml"
    first, second, _ = members
    objectives = {"kind": {"member": str(first), "weight": 1.0}}
    objectives |= {"true": {"member": str(second), "weight": 0.5}}
    path.write_text(json.dumps({"objectives": objectives}))
    local = run(path, pairs_file, tmp_path / "local.jsonl")
    with listen(models=[str(path)]) as url:
        alike(run(url, pairs_file, tmp_path / "served.jsonl", "--model", "both"), local)
    figures = [json.loads((tmp_path / f"{n}.json").read_text()) for n in ("local", "served")]
    assert figures[0]["scorer"]["revision"] == figures[1]["scorer"]["revision"]
    assert figures[0]["separation"] == figures[1]["separation"]
    assert figures[0]["separation"]["pairs"][""]["pairs"] == 60


def test_a_service_that_is_not_there_is_one_sentence(tmp_path: Path, pairs_file: Path):
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:9"):
        run("http://127.0.0.1:9", pairs_file, tmp_path / "served.jsonl")
