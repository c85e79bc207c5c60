"""The plan's file and the members' outcomes: what is refused, what is said, what a kill leaves."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event, Thread

import msgspec
import pytest
import yaml
from heard import heard
from short_runs import same

from plaudit import checkpoint
from plaudit.checkpoint import sha256
from training import data_files, linear_probe, outcome, run_directory, settings, workers
from training.data.sources import Source
from training.ensemble import main, run, wait
from training.method_settings import LinearProbe
from training.outcome import Outcome
from training.plan_progress import steps
from training.settings import HEAD_FILE, EnsemblePlan, MemberSettings, SettingsError
from training.shared_files import alone
from training.train import last_state
from training.warm import Options, warm
from training.workers import check_devices, environment, reason

ROOT = Path(__file__).parents[2]
MEMBERS = [MemberSettings(seed=1, lr=3e-3), MemberSettings(seed=2, lr=2e-3, dropout=0.1)]


@pytest.fixture(scope="module")
def longer(configure):
    """``longer(out)``: two members of 50 steps, a state every 6, with one head and one trunk."""

    def plan(out: Path, **changes: object) -> EnsemblePlan:
        shared = {"epochs": 10, "save_steps": 6, "train_layers": 2, "members": MEMBERS}
        shared |= {"probe": LinearProbe(l2=1), "trunk_cache": out.with_name("trunk")}
        found = configure(out, EnsemblePlan, **(shared | changes))
        assert isinstance(found, EnsemblePlan)
        return found

    return plan


@pytest.fixture(scope="module")
def uninterrupted(longer, tmp_path_factory) -> EnsemblePlan:
    forkserver.ensure_running()  # it imports meanwhile
    plan = longer(tmp_path_factory.mktemp("uninterrupted") / "out")
    run(plan)
    return plan


def written(plan: EnsemblePlan, directory: Path) -> str:
    path = directory / "given.yaml"
    path.write_text(plan.model_dump_json(exclude_unset=True))  # JSON is YAML
    return str(path)


# Its processes have imported what they need: a new interpreter would take seconds for that.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["training.ensemble"])


@contextmanager
def started(*words: str) -> Iterator[BaseProcess]:
    """``plaudit ensemble`` in a process of its own."""
    process = PROCESSES.Process(target=main, args=[words])
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def kill_in(process: BaseProcess, member: Path) -> int:
    """SIGKILL inside a member: the step that it goes on from."""
    while last_state(member / "trainer") is None:
        process.join(0.01)
        assert process.is_alive()
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not checkpoint.is_complete(member)
    return int(last_state(member / "trainer").rpartition("-")[2])


def job_words(given: str, index: int) -> list[str]:
    """What the container of an index of the Kubernetes Job is started with."""
    job = yaml.safe_load((ROOT / "k8s" / "training" / "members.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    known = {"/plan/plan.yaml": given, "$(JOB_COMPLETION_INDEX)": str(index)}
    command, *words = (known.get(word, word) for word in container["args"])
    assert command == "ensemble"
    return words


def outcomes(plan: EnsemblePlan) -> list[Outcome | None]:
    return [outcome.read(plan.member(index).out) for index in range(len(plan.members))]


def test_the_recorded_plan_is_a_plan_and_is_itself_again(ensemble_plan, tmp_path):
    path = ensemble_plan.out / "plan.yaml"
    again = settings.load(EnsemblePlan, path)
    assert run_directory.resolved(again) == run_directory.resolved(ensemble_plan)
    for index in range(len(ensemble_plan.members)):
        assert again.member(index) == ensemble_plan.member(index)
    assert run_directory.record(again) == sha256(path.read_bytes())


def test_an_outcome_says_what_became_of_each_member(ensemble_plan):
    digest = run_directory.record(ensemble_plan)
    for index, found in enumerate(outcomes(ensemble_plan)):
        manifest, _ = checkpoint.read(ensemble_plan.member(index).out)
        assert found.plan == digest
        assert (found.state, found.error) == ("complete", None)
        assert found.steps == found.of == 5
        assert found.seconds > 0
        assert found.validation_accuracy == manifest.training["validation_accuracy"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 1e-4}, r"lr is 0\.0001, was 0\.003"),
        ({"max_tokens": 64}, "max_tokens is 64, was 128"),
        ({"probe": LinearProbe()}, r"probe\.l2"),
        ({"members": MEMBERS}, r"members\.2\.lr is None, was 0\.001"),
    ],
)
def test_another_plan_in_the_directory_is_refused_by_its_keys(ensemble_plan, changes, said):
    with pytest.raises(SettingsError, match=said) as refused:
        run(ensemble_plan.model_copy(update=changes))
    assert "Choose another out=DIR, or remove" in str(refused.value)
    assert "epochs" not in str(refused.value)


def test_members_without_a_plan_are_refused(ensemble_plan, tmp_path):
    (tmp_path / "out" / "member-0").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"holds member-0 and no plan\.yaml"):
        run(ensemble_plan.model_copy(update={"out": tmp_path / "out"}))


def test_a_member_that_is_not_in_the_plan_is_refused(ensemble_plan, tmp_path):
    for index in ("3", "-1"):
        with pytest.raises(SettingsError, match="members 0 to 2"):
            main([written(ensemble_plan, tmp_path), f"--member={index}"])


def test_a_failure_is_recorded_with_its_reason_and_goes_when_the_member_is_complete(
    longer, tmp_path
):
    plan = longer(tmp_path / "out", epochs=1)
    run_directory.record(plan)
    (plan.member(0).out / "trainer").parent.mkdir()
    (plan.member(0).out / "trainer").write_text("no directory")
    with pytest.raises(SettingsError, match="is in the way"):
        run(plan)
    found, nothing = outcomes(plan)
    assert (found.state, found.steps, nothing) == ("failed", 0, None)
    assert found.error.startswith("SettingsError: ")
    (plan.member(0).out / "trainer").unlink()
    main([written(plan, tmp_path), "--member", "0"])
    found, nothing = outcomes(plan)
    assert (found.state, found.error, nothing) == ("complete", None, None)
    assert not (plan.out / "ensemble.yaml").exists()


def test_a_diverged_member_has_failed_and_another_lr_trains_it_beside_the_complete_one(
    configure, tmp_path
):
    members = [MEMBERS[0], MemberSettings(seed=2, lr=1e30)]
    plan = configure(tmp_path / "out", EnsemblePlan, epochs=1, members=members)
    for _ in range(2):  # again, from what was saved
        with pytest.raises(SettingsError, match=r"training diverged, .* then remove .*member-1$"):
            run(plan)
        first, second = outcomes(plan)
        assert (first.state, second.state) == ("complete", "failed")
        assert second.error.startswith("SettingsError: ")
    mended = plan.model_copy(update={"members": MEMBERS})
    with pytest.raises(SettingsError, match=r"or remove [^,]*$"):
        run(mended)
    shutil.rmtree(plan.member(1).out)
    with pytest.raises(SettingsError, match=r"or change members\.1, .*, in plan\.yaml too$"):
        run(mended)
    recorded = plan.out / "plan.yaml"
    values = yaml.safe_load(recorded.read_text())
    values["members"][1]["lr"], values["members"][1]["dropout"] = 2e-3, 0.1
    recorded.write_text(yaml.safe_dump(values))
    before = (plan.member(0).out / "reward.json").stat().st_mtime_ns
    run(mended)
    assert [found.state for found in outcomes(plan)] == ["complete", "complete"]
    assert (plan.member(0).out / "reward.json").stat().st_mtime_ns == before
    assert (plan.out / "ensemble.yaml").is_file()


def test_members_share_the_probed_head(uninterrupted):
    manifests = [checkpoint.read(uninterrupted.member(i).out)[0] for i in (0, 1)]
    assert manifests[0].head_init == manifests[1].head_init
    assert manifests[0].training["head"]["l2"] == "1.0"
    assert manifests[0].training["settings"]["probe"] is None


def test_a_head_of_another_plan_or_of_other_data_is_refused(longer, easy_pairs, tmp_path):
    data = shutil.copy(easy_pairs, tmp_path / "data.jsonl")
    plan = longer(tmp_path / "out", sources=[Source(name="easy", path=data)])
    head = plan.out / HEAD_FILE
    linear_probe.probe_head(plan, LinearProbe(l2=2), head)
    with pytest.raises(SettingsError, match="fitted to other data"):
        run(plan)
    head.unlink()
    linear_probe.probe_head(plan, plan.probe, head)
    data.write_text(data.read_text().replace("because it is so", "as it is so"))
    (plan.out / data_files.FILE).unlink()  # which would refuse the data before
    with pytest.raises(SettingsError, match="fitted to other data"):
        main([written(plan, tmp_path), "--member", "1"])
    assert [found.state for found in outcomes(plan)] == ["failed", "failed"]


def test_members_of_one_plan_are_not_trained_on_different_data(longer, easy_pairs, tmp_path):
    data = shutil.copy(easy_pairs, tmp_path / "data.jsonl")
    source = Source(name="easy", path=data)
    plan = longer(tmp_path / "out", sources=[source], epochs=1, probe=None, trunk_cache=None)
    given = written(plan, tmp_path)
    assert main([given, "--member", "0"]) == 0
    whole = data.read_text()
    data.write_text(whole.replace("because it is so", "as it is so"))
    with pytest.raises(
        SettingsError, match=rf"sources\.easy \({data}\) is sha256:.*, was sha256:"
    ) as refused:
        main([given, "--member", "1"])
    assert str(refused.value).endswith("Restore what it was, or choose another out=DIR")
    assert outcomes(plan)[1] is None
    data.write_text(whole)
    assert main([given, "--member", "1"]) == 0
    data.unlink()
    assert main([given]) == 0  # nothing is left to read


def test_a_killed_run_goes_on_at_its_member_and_step(uninterrupted, longer, tmp_path):
    plan = longer(tmp_path / "out")
    given = written(plan, tmp_path)
    with started(given) as process:
        reached = kill_in(process, plan.member(1).out)
    first, second = outcomes(plan)
    assert (first.state, second.state) == ("complete", "running")
    before = (plan.member(0).out / "reward.json").stat().st_mtime_ns
    history = trained_steps(plan.member(1).out)
    assert main([given]) == 0
    assert (plan.member(0).out / "reward.json").stat().st_mtime_ns == before
    # Logged with their timings: the steps up to the saved state ran once.
    assert trained_steps(plan.member(1).out)[:reached] == history[:reached]
    for index in (0, 1):
        assert same(plan.member(index).out, uninterrupted.member(index).out)
    assert all(found.state == "complete" for found in outcomes(plan))


def trained_steps(member: Path) -> list[dict[str, float]]:
    state = Path(last_state(member / "trainer")) / "trainer_state.json"
    return [entry for entry in json.loads(state.read_text())["log_history"] if "loss" in entry]


def test_workers_of_a_job_survive_a_kill_and_are_averaged(uninterrupted, longer, tmp_path):
    """Two indices side by side; either may be the one that makes the head, or the trunk."""
    plan = longer(tmp_path / "out")
    given = written(plan, tmp_path)
    with (
        started(*job_words(given, 0)) as kept,
        started(*job_words(given, 1)) as killed,
    ):
        with heard() as said:
            waiting = Thread(target=wait, args=[plan])
            waiting.start()
            kill_in(killed, plan.member(1).out)
            kept.join(600)
            assert kept.exitcode == 0
            said.wait_for("waiting for member-1\n")
        assert main(job_words(given, 1)) == 0
        waiting.join(timeout=300)
        assert not waiting.is_alive()
    assert settings.load(EnsemblePlan, plan.out / "plan.yaml").out == plan.out
    assert (plan.out / "ensemble.yaml").is_file()
    members = [plan.member(index).out for index in (0, 1)]
    for index in (0, 1):
        assert same(members[index], uninterrupted.member(index).out)
    warm(members, tmp_path / "warm", Options(points=3))
    assert checkpoint.read(tmp_path / "warm")[0].kind == "warm"


def test_one_member_s_failure_ends_no_other_and_is_listed(longer, tmp_path, capfd, monkeypatch):
    """And is this attempt's, where the process could not even begin one."""
    plan = longer(tmp_path / "out")
    first, second = (plan.member(index).out for index in (0, 1))
    first.mkdir(parents=True)
    before = Outcome("sha256:plan", state="failed", steps=8, seconds=9, error="an earlier one's")
    outcome.write(first, before)
    (plan.out / "plan.yaml").write_text(yaml.safe_dump(run_directory.resolved(plan)))
    scripts = ("exit 3", "echo and the second one")
    monkeypatch.setattr(workers, "command", lambda _, index: ["sh", "-c", scripts[index]])
    assert main([written(plan, tmp_path), "--parallel", "1"]) == 1
    said = f"ended with 3; its last words are in {first / 'log.txt'}"
    assert f"{first}: {said}\n" in capfd.readouterr().err
    assert outcome.read(first) == msgspec.structs.replace(before, error=said)
    assert (second / "log.txt").read_text() == "and the second one\n"
    assert not (plan.out / "ensemble.yaml").exists()


def test_a_member_whose_process_died_after_its_seal_is_complete(
    uninterrupted, longer, tmp_path, monkeypatch, capfd
):
    plan = longer(tmp_path / "out")
    sealed = [tmp_path / f"sealed-{index}" for index in (0, 1)]
    for index, directory in enumerate(sealed):
        shutil.copytree(uninterrupted.member(index).out, directory)
        outcome.write(directory, Outcome("sha256:plan", steps=50, of=50))
    ends = [f"cp -r {sealed[0]}/. {plan.member(0).out} && kill -9 $$"]
    ends.append(f"cp -r {sealed[1]}/. {plan.member(1).out} && exit 3")
    monkeypatch.setattr(workers, "command", lambda _, index: ["sh", "-c", ends[index]])
    assert main([written(plan, tmp_path), "--parallel", "1"]) == 0
    said = capfd.readouterr().err
    assert f"{plan.member(0).out}: complete, its process ended by SIGKILL after its seal" in said
    assert f"{plan.member(1).out}: complete, its process ended with 3 after its seal" in said
    assert [found.state for found in outcomes(plan)] == ["complete", "complete"]
    assert all(found.validation_accuracy is not None for found in outcomes(plan))
    assert (plan.out / "ensemble.yaml").is_file()


def test_a_member_that_raises_behind_its_seal_is_complete(uninterrupted, tmp_path):
    member = shutil.copytree(uninterrupted.member(0).out, tmp_path / "member-0")
    outcome.write(member, Outcome("sha256:plan"))
    with (
        pytest.raises(RuntimeError, match="at the end"),
        outcome.attempt(member, "sha256:plan", lambda: None),
    ):
        raise RuntimeError("at the end")
    found = outcome.read(member)
    assert (found.state, found.error) == ("complete", None)
    assert found.validation_accuracy is not None


def test_what_a_seal_has_measured_is_told_without_reading_the_weights(uninterrupted, tmp_path):
    shutil.copy(uninterrupted.member(0).out / "reward.json", tmp_path)
    outcome.complete(tmp_path, "sha256:plan")
    assert outcome.read(tmp_path).validation_accuracy is not None


def test_what_a_run_reads_is_known_by_name_and_contents(configure, easy_pairs, tmp_path, capsys):
    """A source that comes or goes, and a template, are other data; another place is not."""
    data, template = shutil.copy(easy_pairs, tmp_path / "data.jsonl"), tmp_path / "chat.jinja"
    template.write_text("one")
    own = Source(name="easy", path=data)
    config = configure(tmp_path / "an out", sources=[own], chat_template=template)
    kept = config.out / "trainer"
    (kept / "checkpoint-1").mkdir(parents=True)
    data_files.record(kept, config, begun=True)
    assert f"not known what {config.out} began with" in capsys.readouterr().out
    moved = Source(name="easy", path=shutil.copy(data, tmp_path / "moved.jsonl"))
    data_files.record(kept, config.model_copy(update={"sources": [moved]}), begun=True)
    for sources in ([own, Source(name="new", path=data)], [Source(name="other", path=data)]):
        with pytest.raises(SettingsError, match="was not given"):
            data_files.record(kept, config.model_copy(update={"sources": sources}), begun=True)
    template.write_text("two")
    with pytest.raises(SettingsError, match=rf"chat_template \({template}\) is sha") as refused:
        data_files.record(kept, config, begun=True)
    assert str(refused.value).endswith(f"Restore what it was, choose another out=DIR, or begin "
                                       f"anew: rm -r '{config.out}'")  # fmt: skip
    data_files.record(kept, config, begun=False)
    assert capsys.readouterr().out == ""


def test_sigterm_ends_the_members_too(longer, tmp_path):
    plan = longer(tmp_path / "out", epochs=4000)
    member = plan.member(0).out

    def end_soon() -> None:
        while last_state(member / "trainer") is None:
            Event().wait(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    ending = Thread(target=end_soon)
    ending.start()
    with pytest.raises(SystemExit) as ended:
        main([written(plan, tmp_path), "--parallel", "1"])
    ending.join()
    assert ended.value.code == 128 + signal.SIGTERM
    assert "member 1 of 2" in (member / "log.txt").read_text()
    with alone(member):  # the process held this while it lived
        found = outcome.read(member)
        assert (found.state, found.of) == ("running", 20000)


def test_a_member_that_could_not_say_why_it_ended_has_failed_by_its_signal(longer, tmp_path):
    plan = longer(tmp_path / "out")
    member = plan.member(0).out
    member.mkdir(parents=True)
    outcome.write(member, Outcome("sha256:plan", steps=8, of=50))
    said = reason(plan, 0, -signal.SIGKILL)
    assert said.startswith("ended by SIGKILL; ")
    assert outcome.read(member) == Outcome(
        "sha256:plan", state="failed", steps=8, of=50, error=said
    )


def test_a_member_that_said_why_it_failed_is_believed(longer, tmp_path):
    plan = longer(tmp_path / "out")
    plan.member(0).out.mkdir(parents=True)
    outcome.write(plan.member(0).out, Outcome("sha256:plan", state="failed", error="its own words"))
    assert reason(plan, 0, 1) == "its own words"


def test_progress_counts_the_steps_of_all_members():
    def at(step: int) -> Outcome:
        return Outcome("sha256:", steps=step, of=50)

    assert steps([], 3) == (0, None)
    assert steps([Outcome("sha256:")], 3) == (0, None)
    assert steps([at(50), at(7)], 3) == (57, 150)


def test_devices_that_are_not_there_are_refused():
    check_devices(["cpu", "cpu"])
    with pytest.raises(SettingsError, match="write cuda:0,cuda:1 or cpu"):
        check_devices(["gpu0"])
    with pytest.raises(SettingsError, match="no cuda:97 here"):
        check_devices(["cuda:97"])


def test_a_process_sees_its_device_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-abc")
    assert environment("cuda:1", 4) == {"CUDA_VISIBLE_DEVICES": "GPU-abc", "OMP_NUM_THREADS": "4"}
    assert environment("cpu", 1)["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert environment("cuda:1", 4)["CUDA_VISIBLE_DEVICES"] == "1"
