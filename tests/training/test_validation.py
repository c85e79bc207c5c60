"""What is measured while a run goes on, and the state that is kept."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from short_runs import (
    LAUNCH,
    interrupted_after_first_state,
    interrupted_after_state,
    launched,
    run,
    same,
    weights,
    written,
)
from torch.testing import assert_close

from plaudit import checkpoint
from plaudit.reward_model import RewardModel
from training.data.sources import Source
from training.measure import score_pairs
from training.settings import TrainSettings
from training.train import train
from training.training_data import Data

EVAL_STEPS = 3


@pytest.fixture(scope="module")
def mislabelled(easy_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The easy pairs, each with the worse response as the chosen one."""
    path = tmp_path_factory.mktemp("mislabelled") / "pairs.jsonl"
    rows = [json.loads(line) for line in easy_pairs.read_text().splitlines()]
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in turned))
    return path


@pytest.fixture(scope="module")
def unlearn(
    configure: Callable[..., TrainSettings], easy_pairs: Path, mislabelled: Path
) -> Callable[..., TrainSettings]:
    """Settings of a run that gets worse with every step, by validation pairs with true labels."""
    sources = [
        Source(name="wrong", path=mislabelled, side="train"),
        Source(name="true", path=easy_pairs, side="validation"),
    ]

    def _unlearn(out: Path, **changes: object) -> TrainSettings:
        return configure(out, sources=sources, eval_steps=EVAL_STEPS, lr=1e-4, **changes)

    return _unlearn


@pytest.fixture(scope="module")
def best(unlearn, tmp_path_factory) -> TrainSettings:
    """A finished run that kept its best state. Read only."""
    config = unlearn(tmp_path_factory.mktemp("best") / "out", keep="best")
    train(config)
    return config


def measurements(config: TrainSettings) -> dict[int, float]:
    """Accuracy by step, from the log of the last state."""
    states = [*(config.out / "trainer").glob("checkpoint-*/trainer_state.json")]
    last = max(states, key=lambda path: json.loads(path.read_text())["global_step"])
    logged = json.loads(last.read_text())["log_history"]
    return {row["step"]: row["eval_accuracy"] for row in logged if "eval_accuracy" in row}


def test_the_run_is_measured_on_validation_pairs_as_it_goes(best):
    found = measurements(best)
    assert [*found][:2] == [EVAL_STEPS, 2 * EVAL_STEPS]
    assert found[max(found)] < found[EVAL_STEPS]


def test_the_weights_are_those_of_the_first_best_measurement(best):
    found = measurements(best)
    step = next(step for step, one in found.items() if one == max(found.values()))
    manifest = checkpoint.read(best.out)[0]
    kept = {"step": step, "steps": max(found), "accuracy": found[step]}
    assert manifest.training["kept"] == kept
    assert step < max(found)
    model = RewardModel.load(best.out, device="cpu")
    measured = score_pairs(model, Data.of(best, model.encoder).reference)
    assert measured.accuracy == found[step] == manifest.training["validation_accuracy"]


def test_measuring_alone_changes_nothing_and_the_last_weights_stay(best, unlearn, tmp_path):
    watched = unlearn(tmp_path / "watched")
    silent = unlearn(tmp_path / "silent").model_copy(update={"eval_steps": None})
    for config in (watched, silent):
        train(config)
    assert same(watched.out, silent.out)
    assert measurements(watched) == measurements(best)
    assert not same(watched.out, best.out)
    assert "kept" not in checkpoint.read(watched.out)[0].training


def test_patience_ends_a_run_that_gets_no_better(best, unlearn, tmp_path):
    config = unlearn(tmp_path / "out", keep="best", patience=2)
    train(config)
    found, whole = measurements(config), measurements(best)
    first_best = checkpoint.read(best.out)[0].training["kept"]["step"]
    assert max(found) == first_best + 2 * EVAL_STEPS < max(whole)
    assert same(config.out, best.out)


def test_patience_goes_on_where_a_run_was_broken_off(unlearn, tmp_path):
    whole, broken = (unlearn(tmp_path / name, keep="best", patience=2) for name in ("a", "b"))
    train(whole)
    # After the second measurement, which was the first without a better one.
    with interrupted_after_state(broken.out, 2 * EVAL_STEPS):
        train(broken)
    train(broken, resume=True)
    assert measurements(broken) == measurements(whole)
    assert checkpoint.read(broken.out)[0].training["kept"]["steps"] == max(measurements(whole))
    assert same(broken.out, whole.out)


@pytest.mark.parametrize("eval_steps", [1, EVAL_STEPS])
def test_a_run_that_patience_ended_is_only_sealed_again(unlearn, tmp_path, eval_steps):
    config = unlearn(tmp_path / "out", keep="best", patience=2)
    config = config.model_copy(update={"eval_steps": eval_steps})
    train(config)
    found, before = measurements(config), weights(config.out)
    (config.out / "reward.json").unlink()
    train(config, resume=True)
    assert measurements(config) == found
    assert_close(weights(config.out), before, rtol=0, atol=0)


def test_a_broken_off_run_keeps_the_best_state_from_before(best, unlearn, tmp_path):
    config = unlearn(tmp_path / "out", keep="best")
    with interrupted_after_first_state(config.out):
        train(config)
    train(config, resume=True)
    assert measurements(config) == measurements(best)
    assert same(config.out, best.out)


def test_a_frozen_trunk_measures_the_same(unlearn, tmp_path):
    plain = unlearn(tmp_path / "plain", keep="best", train_layers=1)
    cached = unlearn(
        tmp_path / "cached", keep="best", train_layers=1, trunk_cache=tmp_path / "trunk"
    )
    for config in (plain, cached):
        train(config)
    assert measurements(cached) == measurements(plain)
    assert_close(weights(plain.out), weights(cached.out), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["whole", "fsdp"])
def test_two_processes_measure_and_keep_what_one_does(unlearn, tmp_path, kind):
    shared = {"keep": "best", "patience": 2, "batch_pairs": 4}
    alone = unlearn(tmp_path / "alone", accumulation=2, **shared)
    train(alone)
    both = unlearn(tmp_path / "both", **shared)
    whole = [*LAUNCH, "train", written(both, tmp_path)]
    run(whole if kind == "whole" else launched(kind, both, tmp_path))
    assert measurements(both) == measurements(alone)
    found, expected = (checkpoint.read(one.out)[0].training["kept"] for one in (both, alone))
    assert found == expected
    assert_close(weights(both.out), weights(alone.out), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"keep": "best", "eval_steps": None}, "eval_steps"), ({"patience": 2}, "keep: best")],
)
def test_what_nothing_measures_is_refused(unlearn, tmp_path, changes, said):
    with pytest.raises(ValidationError, match=said):
        TrainSettings(**(unlearn(tmp_path / "out").model_dump() | changes))
