"""NeMo-RL's calls of an environment: message logs in, an EnvironmentReturn out."""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from plaudit import ItemsFailed, RewardClient
from plaudit.integrations import nemo_rl
from plaudit.testing import FakeServer
from plaudit.wire import Item, ItemError


class EnvironmentReturn(NamedTuple):
    """The fields of nemo_rl/environments/interfaces.py, in their order."""

    observations: list[dict[str, str]]
    metadata: list[Any]
    next_stop_strings: list[Any]
    rewards: torch.Tensor
    terminateds: torch.Tensor
    answers: list[str | None] | None = None


def module(name: str, **names: object) -> ModuleType:
    found = ModuleType(name)
    vars(found).update(names)
    return found


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parts of NeMo-RL that an environment meets; it cannot be installed from an index."""
    found: dict[str, Any] = {"actors": {}, "environments": {}}
    executables = SimpleNamespace(SYSTEM="python of the system")
    for one in (
        module("nemo_rl.environments.interfaces", EnvironmentReturn=EnvironmentReturn),
        module("nemo_rl.environments.utils", register_env=found["environments"].__setitem__),
        module(
            "nemo_rl.distributed.ray_actor_environment_registry",
            ACTOR_ENVIRONMENT_REGISTRY=found["actors"],
        ),
        module("nemo_rl.distributed.virtual_cluster", PY_EXECUTABLES=executables),
    ):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    for name in ("nemo_rl", "nemo_rl.environments", "nemo_rl.distributed"):
        monkeypatch.setitem(sys.modules, name, module(name))
    return found


def rule(item: Item) -> float | ItemError:
    return ItemError("too-long", "many") if item.response == "bad" else len(item.response or "")


def logs(*answers: str) -> tuple[list[Any], list[Any]]:
    """As rollouts.calculate_rewards sends them: the prompt is in the policy's template."""
    templated = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    user = {"role": "user", "content": templated}
    batch = [[user, {"role": "assistant", "content": answer}] for answer in answers]
    return batch, [{"ground_truth": "8", "prompt": "Why?"} for _ in answers]


def test_a_step_rewards_every_log_and_ends_its_episode(listen: Any, tiny_checkpoint: Any) -> None:
    with listen(models=[tiny_checkpoint]) as url:
        environment = nemo_rl.Environment({"enabled": True, "url": url})
        found = environment.step(*logs("Because.", "So what?"))
        with RewardClient(url) as client:
            expected = client.score([("Why?", "Because."), ("Why?", "So what?")]).rewards
    assert isinstance(found, EnvironmentReturn)
    assert found.rewards.tolist() == pytest.approx(expected, abs=1e-6)
    assert found.rewards.dtype == torch.float32
    assert found.terminateds.tolist() == [True, True]
    assert found.answers == ["Because.", "So what?"]
    assert {len(column) for column in found} == {2}
    assert {one["role"] for one in found.observations} == {"environment"}


def test_the_prompt_is_that_of_the_row_and_not_of_the_policys_template() -> None:
    with FakeServer(rule) as server:
        nemo_rl.Environment({"url": server.url}).step(*logs("a"))
        assert b"im_start" not in server.requests[0].body
        environment = nemo_rl.Environment({"url": server.url, "prompt_key": "question"})
        with pytest.raises(ValueError, match="extra_env_info has no 'question'"):
            environment.step(*logs("a"))


def test_a_failure_raises_or_is_the_chosen_number() -> None:
    with FakeServer(rule) as server:
        with pytest.raises(ItemsFailed, match="item 1: too-long"):
            nemo_rl.Environment({"url": server.url}).step(*logs("a", "bad"))
        environment = nemo_rl.Environment({"url": server.url, "failed": -5})
        assert environment.step(*logs("a", "bad")).rewards.tolist() == [1.0, -5.0]


def test_disagreement_is_a_metric_of_the_steps_since_the_last() -> None:
    with FakeServer(rule, offsets=(-1, 1)) as server:
        environment = nemo_rl.Environment({"url": server.url, "ensemble": "fake-ensemble"})
        environment.step(*logs("a"))
        environment.step(*logs("b", "c"))
        batch = {"message_log": []}
        metrics = {"plaudit/disagreement": pytest.approx(2**0.5)}
        assert environment.global_post_process_and_metrics(batch) == (batch, metrics)
        assert environment.global_post_process_and_metrics(batch) == (batch, {})


def test_it_registers_under_a_name_that_resolves(registry: dict[str, Any]) -> None:
    nemo_rl.register("rewards")
    assert registry["environments"] == {"rewards": nemo_rl.ACTOR}
    assert registry["actors"] == {nemo_rl.ACTOR: "python of the system"}
    assert nemo_rl.ACTOR.endswith("nemo_rl.PlauditEnvironment")


def test_the_name_is_a_ray_actor_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ray.remote`` is all that is used of Ray."""
    decorated: list[type] = []

    def remote(kind: type) -> Callable[[], str]:
        decorated.append(kind)
        return lambda: "actor"

    monkeypatch.setitem(sys.modules, "ray", module("ray", remote=remote))
    try:
        assert nemo_rl.PlauditEnvironment() == "actor"
        assert decorated == [nemo_rl.Environment]
    finally:
        nemo_rl._actor.cache_clear()
    with pytest.raises(AttributeError, match="Other"):
        _ = nemo_rl.Other


def test_ray_itself_takes_the_environment() -> None:
    actor = pytest.importorskip("ray.actor")
    assert isinstance(nemo_rl.PlauditEnvironment, actor.ActorClass)
