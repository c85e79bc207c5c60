"""Two rounds of fresh responses, a judge that has seen them, and a policy that learns from it."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from plaudit import checkpoint
from plaudit.client import RewardClient
from plaudit.client.errors import DeadlineExceeded, RevisionChanged, Unreachable
from training.data import sources
from training.data.sources import Source
from training.policy import candidates, plan_file, tuning
from training.policy import iterate as rounds_module
from training.policy.generate import GenerateSettings
from training.policy.iterate import IteratePlan, changed, inputs, iterate, recorded
from training.service_process import free_port
from training.settings import SettingsError, TrainSettings

# Seconds, of a slow and busy machine.
PATIENCE = 600
ASKED = [("Question 1?", "Because it is so.")]


@pytest.fixture
def plan(
    policy: Path, questions: Path, configure: Callable[..., TrainSettings], tmp_path: Path
) -> Callable[..., IteratePlan]:
    """``plan(**changes)``: two rounds, with the plans of their stages in files."""

    def write(name: str, values: dict[str, object]) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    judge = configure(tmp_path / "unused", epochs=1, meta=None).model_dump(mode="json")
    judge["meta"] = {"path": "of each round", "step": 0.05, "prompts": 2, "responses": 3}
    short = {"precision": "fp32", "save_dtype": "float32", "log_to": [], "lr": 1e-3}
    asked = {"prompts": {"path": str(questions)}, "side": None, "model": "", "out": "unused.jsonl"}
    grpo = {
        **short, **asked, "service": {"url": "http://unused"}, "responses": 4,
        "batch_responses": 8, "max_new_tokens": 8, "epochs": 1, "prompts": {
            "path": str(questions), "max_prompts": 4},
    }  # fmt: skip
    sampling = {"responses": 4, "max_new_tokens": 8, "dtype": "float32"}

    def make(**changes: object) -> IteratePlan:
        values: dict[str, object] = {
            "model": str(policy),
            "out": tmp_path / "rounds",
            "rounds": 2,
            "generate": write("generate", {**asked, "sampling": sampling}),
            "judge": write("judge", judge),
            "grpo": write("grpo", grpo),
            "port": free_port(),
            "dtype": "float32",
        }
        return IteratePlan(**(values | changes))

    return make


class Watcher:
    """A client that asks now and then while judges are swapped behind its port; once it has met
    the second, another one that is pinned to the first. From its first answer on none may fail."""

    def __init__(self, port: int):
        self._url = f"http://127.0.0.1:{port}"
        self._met_first, self._over = threading.Event(), threading.Event()
        self.revisions: list[str] = []
        self.refused = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ThreadPoolExecutor(1) as pool:
            self._future = pool.submit(self._watch)
            self._future.add_done_callback(lambda _: self._met_first.set())
            try:
                yield
            finally:
                self._over.set()

    def wait(self, number: int) -> None:
        """Until it has met the judge of a round; raises what ended it."""
        assert self._met_first.wait(PATIENCE)
        if number == 2 or self._future.done():
            self._future.result(PATIENCE)

    def _watch(self) -> None:
        with RewardClient(self._url, max_retries=0) as client:
            while len(self.revisions) < 2 and not self._over.wait(0.1):
                if self.revisions:
                    self._note(client.score(ASKED).revision)
                    continue
                with suppress(DeadlineExceeded, Unreachable):  # not there yet
                    client.wait_ready(1)
                    self._note(client.score(ASKED).revision)
        if self._over.is_set():
            return
        with RewardClient(self._url, revision=self.revisions[0]) as pinned:
            try:
                pinned.score(ASKED)
            except RevisionChanged:
                self.refused = True

    def _note(self, revision: str) -> None:
        if revision not in self.revisions:
            self.revisions.append(revision)
            self._met_first.set()


def test_rounds_swap_the_judge_in_the_running_service_and_move_the_policy(plan, monkeypatch):
    config = plan()
    watcher = Watcher(config.port)
    tune = rounds_module.tune

    def tune_and_wait(plan: IteratePlan, directory: Path, *rest: object) -> None:
        """A service is not taken away before the watcher has met it."""
        tune(plan, directory, *rest)
        watcher.wait(int(directory.name[-1]))

    monkeypatch.setattr(rounds_module, "tune", tune_and_wait)
    with watcher.watching():
        last = iterate(config)
    rounds = [config.out / f"round-{number}" for number in (1, 2)]
    judges = [checkpoint.read(config.out / "judges" / one.name) for one in rounds]
    assert watcher.revisions == [revision for _, revision in judges]
    assert watcher.refused
    fresh = [(one / "fresh.jsonl").read_bytes() for one in rounds]
    told_apart = [manifest.training["meta"]["data"] for manifest, _ in judges]
    assert fresh[0] != fresh[1]
    assert told_apart[0] != told_apart[1]
    assert last == rounds[1] / "tuning" / tuning.POLICY
    before = (last / "model.safetensors").stat().st_mtime_ns
    assert iterate(config) == last
    assert (last / "model.safetensors").stat().st_mtime_ns == before


def test_a_round_may_label_the_fresh_responses_by_a_given_judge(plan, tiny_checkpoint, tmp_path):
    tuned = {"precision": "fp32", "save_dtype": "float32", "log_to": [], "lr": 1e-3}
    prefer = tmp_path / "prefer.yaml"
    unused = {"model": "", "out": "unused"}
    split = {"validation": 0.3, "test": 0.0}
    prefer.write_text(yaml.safe_dump({**tuned, **unused, "split": split, "loss": "ipo"}))
    config = plan(rounds=1, judge=tiny_checkpoint, grpo=None, prefer=prefer)
    last = iterate(config)
    pairs = sources.load(Source(name="pairs", path=config.out / "round-1" / "pairs.jsonl")).pairs
    fresh = candidates.read(config.out / "round-1" / "fresh.jsonl")
    said = {one.key: one.responses for one in fresh}
    assert pairs
    assert all({p.chosen, p.rejected} <= {*said[p.turns]} for p in pairs)
    assert {p.rest["revision"] for p in pairs} == {checkpoint.read(tiny_checkpoint)[1]}
    assert (last / "config.json").is_file()


def test_another_plan_of_a_stage_or_another_judge_is_refused(plan, tiny_checkpoint, tmp_path):
    judge = shutil.copytree(tiny_checkpoint, tmp_path / "given")
    config = plan(judge=judge)

    def record() -> None:
        plan_file.record(recorded(config), config.out, inputs(config))

    record()
    manifest = judge / checkpoint.MANIFEST
    before = manifest.read_bytes()
    manifest.write_bytes(before + b"\n")
    with pytest.raises(SettingsError, match=rf"inputs\.\S*{manifest.name} is sha256"):
        record()
    manifest.write_bytes(before)
    config.generate.write_text(config.generate.read_text().replace("responses: 4", "responses: 5"))
    with pytest.raises(SettingsError, match=r"generate\.sampling\.responses is 5, was 4"):
        record()
    config.generate.write_text(config.generate.read_text().replace("responses: 5", "responses: 4"))
    tuning_plan = config.grpo.read_text() + "save_steps: 7\n# More patient now.\n"
    config.grpo.write_text(tuning_plan.replace("url:", "timeout_seconds: 99\n  url:"))
    config = config.model_copy(update={"port": 1})
    record()


def test_what_the_stages_read_is_an_input(plan, questions, easy_pairs, tmp_path):
    """The prompts of both, and the pairs that the judge is trained on."""
    config = plan()
    own = shutil.copy(questions, tmp_path / "questions.jsonl")
    config.grpo.write_text(config.grpo.read_text().replace(str(questions), str(own)))
    found = inputs(config)
    assert {str(questions), str(own), str(easy_pairs), config.model} < found.keys()
    plan_file.record(recorded(config), config.out, found)
    own.write_text(own.read_text() + "\n")
    with pytest.raises(SettingsError, match=r"inputs\.\S*questions\.jsonl is sha256"):
        plan_file.record(recorded(config), config.out, inputs(config))


def test_a_round_s_paths_are_taken_as_they_are(plan):
    found = changed(
        GenerateSettings, plan().generate, {"model": "a: b #c \U0001f600", "out": "1e3"}
    )
    assert (found.model, found.out) == ("a: b #c \U0001f600", Path("1e3"))


def test_one_way_to_tune_is_given(plan):
    with pytest.raises(ValueError, match="give either grpo or prefer"):
        plan(grpo=None)
