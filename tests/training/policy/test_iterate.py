"""Two rounds of fresh responses, a judge that has seen them, and a policy that learns from it."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from plaudit import checkpoint
from plaudit.client import RewardClient
from plaudit.client.errors import RevisionChanged
from training.experiments.serving import free_port
from training.policy import tuning
from training.policy.iterate import IteratePlan, iterate
from training.settings import TrainSettings

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


class Watcher(threading.Thread):
    """A client that asks on and on while judges are exchanged behind its port, with one pinned to
    the first judge beside it."""

    def __init__(self, port: int):
        super().__init__()
        self._url = f"http://127.0.0.1:{port}"
        self.revisions: list[str] = []
        self.refused = False
        self.enough = threading.Event()

    def run(self) -> None:
        with RewardClient(self._url, max_retries=10_000, timeout_seconds=600) as client:
            client.wait_ready(600)
            while not self.enough.is_set() and len(set(self.revisions)) < 2:
                self.revisions.append(client.score(ASKED).revision)
                self.enough.wait(0.05)
            if len(set(self.revisions)) < 2:
                return
        with RewardClient(self._url, revision=self.revisions[0]) as pinned:
            try:
                pinned.score(ASKED)
            except RevisionChanged:
                self.refused = True


def test_rounds_exchange_the_judge_behind_its_port_and_move_the_policy(plan, policy):
    config = plan()
    watcher = Watcher(config.port)
    watcher.start()
    try:
        last = iterate(config)
    finally:
        watcher.enough.set()
        watcher.join()
    rounds = [config.out / f"round-{number}" for number in (1, 2)]
    judges = [checkpoint.read(one / "judge") for one in rounds]
    assert list(dict.fromkeys(watcher.revisions)) == [revision for _, revision in judges]
    assert watcher.refused
    fresh = [(one / "fresh.jsonl").read_bytes() for one in rounds]
    told_apart = [manifest.training["meta"]["data"] for manifest, _ in judges]
    assert fresh[0] != fresh[1]
    assert told_apart[0] != told_apart[1]
    assert last == rounds[1] / "tuning" / tuning.POLICY
    before = (last / "model.safetensors").stat().st_mtime_ns
    assert iterate(config) == last
    assert (last / "model.safetensors").stat().st_mtime_ns == before
