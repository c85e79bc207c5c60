"""What a directory is of: its plan, its inputs, and the rows and rewards that lie in it."""

import shutil
from pathlib import Path

import pytest

from plaudit.testing import FakeServer
from training.data.jsonlines import DataError
from training.policy import candidates, one_process, plan_file, samples, scored, tuning
from training.policy.candidates import Candidates
from training.policy.iterate import iterate
from training.policy.ppo import PpoSettings, ppo
from training.policy.prompts import Prompt, PromptFile
from training.policy.raft import raft
from training.policy.rewards import Service
from training.policy.rrhf import rrhf
from training.policy.sampling import Sampling
from training.score.served import ServiceError
from training.settings import SettingsError


def row(name: str, *responses: str) -> Candidates:
    return Candidates(({"role": "user", "content": name},), responses)


def record(out: Path, base: Path, file: Path) -> None:
    plan_file.record(Service(url="http://one"), out, plan_file.digests([str(base)], [file]))


def test_a_directory_goes_on_with_the_same_inputs_alone(policy, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(policy, base)
    file = tmp_path / "prompts.jsonl"
    file.write_text("one\n")
    record(tmp_path / "out", base, file)
    record(tmp_path / "out", base, file)
    file.write_text("two\n")
    with pytest.raises(SettingsError, match=r"other inputs: inputs\.\S*prompts\.jsonl is sha256"):
        record(tmp_path / "out", base, file)
    file.write_text("one\n")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(SettingsError, match=r"inputs\.\S*base is sha256"):
        record(tmp_path / "out", base, file)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 1e-3}, r"lr is 0\.001, was 1e-06"),
        ({"service": Service(url="http://one", aggregate="uwo")}, r"service\.aggregate is uwo"),
        ({"service": Service(url="http://one", coefficient=2)}, r"service\.coefficient is 2\.0"),
    ],
)
def test_a_tuning_goes_on_with_what_decides_its_steps_alone(policy, tmp_path, changes, said):
    def settings(**given: object) -> PpoSettings:
        values: dict[str, object] = {
            "model": str(policy),
            "out": tmp_path / "out",
            "prompts": PromptFile(path=tmp_path / "prompts.jsonl"),
            "service": Service(url="http://one"),
        }
        return PpoSettings(**(values | given))

    data = {"prompts": "sha256:1", "judge": "sha256:2"}
    tuning.begin(settings(), data)
    moved = Service(url="http://another", timeout_seconds=5)
    tuning.begin(settings(service=moved, save_steps=7, log_to=["tensorboard"]), data)
    with pytest.raises(SettingsError, match=said):
        tuning.begin(settings(**changes), data)
    with pytest.raises(SettingsError, match=r"inputs\.judge is sha256:3, was sha256:2"):
        tuning.begin(settings(), data | {"judge": "sha256:3"})


def test_the_weights_of_a_critic_are_an_input(policy, tmp_path):
    critic = shutil.copytree(policy, tmp_path / "critic")
    config = PpoSettings(
        model=str(policy),
        out=tmp_path / "out",
        critic=str(critic),
        prompts=PromptFile(path=tmp_path / "prompts.jsonl"),
        service=Service(url="http://one"),
    )
    tuning.begin(config, {})
    weights = critic / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(SettingsError, match=r"inputs\.\S*critic is sha256"):
        tuning.begin(config, {})


def test_rewards_that_are_there_are_of_the_same_rows_and_revision(tmp_path):
    out = tmp_path / "scored.jsonl"
    with FakeServer() as server:
        service = Service(url=server.url, model="fake")
        found = scored.make(out, [row("a", "x", "y")], service)
        assert scored.make(out, [row("a", "x", "y")], service, found[0].revision) == found
        with pytest.raises(DataError, match="holds other responses than are to be scored"):
            scored.make(out, [row("a", "x", "z")], service)
        with pytest.raises(DataError, match="holds rewards of another revision than sha256:1"):
            scored.make(out, [row("a", "x", "y")], service, "sha256:1")
        pinned = service.model_copy(update={"revision": "sha256:1"})
        with pytest.raises(DataError, match="holds rewards of another revision than sha256:1"):
            scored.make(out, [row("a", "x", "y")], pinned)
        with pytest.raises(ServiceError, match=r"fake is of revision sha256:0+, not sha256:1"):
            scored.make(tmp_path / "new.jsonl", [row("a", "x", "y")], pinned)


def test_samples_that_are_there_answer_the_same_prompts(tmp_path):
    out = tmp_path / "samples.jsonl"
    candidates.write(out, [row("a", "x")])
    asked = [Prompt(row(name).prompt) for name in "ab"]
    assert samples.make(out, asked[:1], "unused", Sampling()) == [row("a", "x")]
    with pytest.raises(DataError, match="answers other prompts than are asked"):
        samples.make(out, asked, "unused", Sampling())


@pytest.mark.parametrize("command", [raft, rrhf, ppo, iterate])
def test_what_several_processes_would_each_do_is_refused(command, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="runs in one process, and this is one of 2"):
        command(None)
    monkeypatch.setenv("WORLD_SIZE", "1")
    for kind in ("FSDP", "DEEPSPEED"):
        monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
        with pytest.raises(SettingsError, match=rf"\({kind}\): start it without accelerate$"):
            command(None)
        monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "false")
    one_process.require("plaudit raft")


@pytest.mark.parametrize("key", ["port", "service.prompts_per_call", "grpo.logging_steps"])
def test_what_computes_nothing_may_change(key, tmp_path):
    plan_file.record({key: 1}, tmp_path / "out", {})
    plan_file.record({key: 2}, tmp_path / "out", {})


def test_a_directory_with_states_of_an_unknown_run_is_refused(policy, tmp_path):
    """And one with the log of this run is not."""
    config = PpoSettings(
        model=str(policy),
        out=tmp_path / "out",
        prompts=PromptFile(path=tmp_path / "prompts.jsonl"),
        service=Service(url="http://one"),
    )
    (config.out / "trainer" / "checkpoint-3").mkdir(parents=True)
    (config.out / "log.txt").touch()
    with pytest.raises(SettingsError, match=r"holds trainer/checkpoint-3 and no plan\.yaml"):
        tuning.begin(config, {})
    (config.out / "trainer" / "checkpoint-3").rmdir()
    tuning.begin(config, {})


def test_what_has_changed_is_to_be_restored_or_served(tmp_path):
    plan_file.record({"lr": 1}, tmp_path, {"judge": "one", "a file": "1"})
    with pytest.raises(SettingsError, match="Serve that judge again, choose another out=DIR"):
        plan_file.record({"lr": 1}, tmp_path, {"judge": "two", "a file": "1"})
    with pytest.raises(SettingsError, match="Restore what it was, choose another out=DIR"):
        plan_file.record({"lr": 1}, tmp_path, {"judge": "one", "a file": "2"})
    with pytest.raises(SettingsError, match="Serve that judge again and restore what it was, "):
        plan_file.record({"lr": 2}, tmp_path, {"judge": "two", "a file": "1"})
