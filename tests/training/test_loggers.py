"""What a training shows and logs while it runs, and what it refuses to log to."""

import io
import re
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import yaml
from short_runs import history, written
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from plaudit import cli
from training import ensemble, loggers, settings
from training.noise import cross_fit
from training.policy.iterate import IteratePlan, iterate
from training.policy.raft import RaftPlan
from training.settings import TrainSettings
from training.train import main, train

FIGURES = ("loss", "accuracy", "margin", "tokens_per_second")


@pytest.fixture(scope="module")
def logged(configure, tmp_path_factory) -> tuple[TrainSettings, str]:
    """A finished training with the loggers of the defaults, and what it wrote to stderr."""
    out = tmp_path_factory.mktemp("logged") / "out"
    config = configure(out, log_to=TrainSettings.model_fields["log_to"].default)
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as environment, redirect_stderr(said):
        environment.delenv("COLUMNS", raising=False)  # a narrow bar leaves figures out
        train(config)
    return config, said.getvalue()


@pytest.fixture
def without_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)


@pytest.fixture
def nothing_to_read(configure, tmp_path) -> TrainSettings:
    """Settings whose base and data are not there, so that reading them would be refused first."""
    config = configure(tmp_path / "out", model=str(tmp_path / "no-base"), log_to=["wandb"])
    missing = config.sources[0].model_copy(update={"path": tmp_path / "no-pairs.jsonl"})
    return config.model_copy(update={"sources": [missing]})


def test_tensorboard_has_every_figure_of_every_log_entry(logged):
    config, _ = logged
    (run,) = (config.out / "trainer" / "runs").iterdir()
    events = EventAccumulator(str(run)).Reload()
    entries = history(config)
    assert len(entries) > 1
    for figure in FIGURES:
        found = events.Scalars(f"train/{figure}")
        assert [event.step for event in found] == [entry["step"] for entry in entries]
        expected = [entry[figure] for entry in entries]
        assert [event.value for event in found] == pytest.approx(expected, rel=1e-6)


def test_wandb_has_the_last_figures_in_a_run_of_the_name_of_out(configure, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed: plaudit[wandb] has it")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    config = configure(tmp_path / "a-name", log_to=["wandb"], epochs=1)
    train(config)
    with wandb.run as run:
        assert run.name == "a-name"
        entry = history(config)[-1]
        found = {figure: run.summary[f"train/{figure}"] for figure in FIGURES}
    assert found == {figure: entry[figure] for figure in FIGURES}


def test_the_bar_ends_with_the_last_figures_beside_the_time_that_is_left(logged):
    config, said = logged
    entry = history(config)[-1]
    shown = ", ".join(f"{figure}={float(entry[figure]):.4g}" for figure in FIGURES)
    bar = re.escape(f"{entry['step']}/{entry['step']} [") + r"\d\d:\d\d<\d\d:\d\d, [^]]*"
    assert re.search(bar + re.escape(shown), said)


def test_the_bar_shows_figures_while_steps_are_left(logged):
    shown = ", ".join(rf"{figure}=[^,\]]+" for figure in FIGURES)
    assert re.search(rf"\b1/\d\d \[\d\d:\d\d<\d\d:\d\d, [^\]]*{shown}", logged[1])


def test_a_logger_that_is_missing_is_refused_in_a_sentence_before_anything_is_read(
    without_wandb, nothing_to_read, tmp_path, capsys
):
    assert cli.main(["train", written(nothing_to_read, tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "plaudit train: log_to: wandb is not installed; leave it out, or "
        "pip install 'plaudit[wandb]'\n"
    )
    assert not nothing_to_read.out.exists()


def test_the_default_logger_comes_with_the_extra_that_trains(configure, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    config = configure(tmp_path / "out", log_to=["tensorboard"])
    with pytest.raises(loggers.LoggerError, match=r"pip install 'plaudit\[training\]'$"):
        main([written(config, tmp_path)])


@pytest.mark.parametrize(("command", "more"), [(ensemble, {}), (cross_fit, {"folds": 2})])
def test_plans_of_several_trainings_refuse_it_as_early(
    without_wandb, nothing_to_read, tmp_path, command, more
):
    members = [{"seed": 1, "lr": 1e-3}, {"seed": 2, "lr": 1e-3}]
    plan = nothing_to_read.model_dump(mode="json") | {"members": members} | more
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    with pytest.raises(loggers.LoggerError, match="wandb is not installed"):
        command.main([str(path)])
    assert not nothing_to_read.out.exists()


def test_settings_within_settings_are_looked_at(without_wandb):
    given = ["model=m", "out=o", "prompts.path=p", "service.url=http://u", "tuning.log_to=[wandb]"]
    plan = settings.load(RaftPlan, None, given)
    with pytest.raises(loggers.LoggerError, match="wandb is not installed"):
        loggers.require(plan)


def test_plans_that_a_plan_names_are_looked_at(without_wandb, tmp_path):
    asked = {"prompts": {"path": "p"}}
    plan = IteratePlan(
        model="m",
        out=tmp_path / "iterated",
        generate=write(tmp_path / "generate.yaml", asked),
        judge=tmp_path,  # a checkpoint, which is not trained
        grpo=write(tmp_path / "grpo.yaml", asked | {"log_to": ["wandb"]}),
    )
    with pytest.raises(loggers.LoggerError, match="wandb is not installed"):
        iterate(plan)
    assert not plan.out.exists()


def test_settings_are_read_where_their_logger_is_missing(without_wandb, nothing_to_read, tmp_path):
    """A checkpoint names its training's, and is evaluated elsewhere."""
    found = settings.load(TrainSettings, Path(written(nothing_to_read, tmp_path)))
    assert found.log_to == ["wandb"]


def test_the_folder_that_wandb_leaves_is_no_wandb(tmp_path, monkeypatch):
    (tmp_path / "a_logger").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not loggers.is_installed("a_logger")
    (tmp_path / "a_logger" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert loggers.is_installed("a_logger")


def write(path: Path, values: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path
