"""verl's calls of a custom reward function, by its own files."""

import asyncio
import importlib.util
import math
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from trainer_clients import client_file

from plaudit import ItemsFailed, RewardClient
from plaudit.integrations import verl
from plaudit.integrations.source import close_async
from plaudit.testing import FakeServer
from plaudit.wire import Item, ItemError

Call = Callable[..., dict[str, float]]


def at_once(function: Any) -> Call:
    """In a loop of its own, as trainers have one for all calls."""

    async def call(*given: Any, **options: Any) -> Any:
        try:
            return await function(*given, **options)
        finally:
            await close_async()

    return lambda *given, **options: asyncio.run(call(*given, **options))


@pytest.fixture(params=[verl.compute_score, verl.compute_score_async])
def call(request: pytest.FixtureRequest) -> Call:
    """As verl calls: by keywords, its own four and those of reward_kwargs."""
    function = request.param
    return at_once(function) if asyncio.iscoroutinefunction(function) else function


def verls(response: str, **extra_info: Any) -> dict[str, Any]:
    """What NaiveRewardManager.run_single passes (verl 0.9.1)."""
    return {
        "data_source": "openai/gsm8k",
        "solution_str": response,
        "ground_truth": "8",
        "extra_info": {"index": 3, "num_turns": None, "rollout_reward_scores": {}, **extra_info},
    }


def rule(item: Item) -> float | ItemError:
    return ItemError("too-long", "many") if item.response == "bad" else len(item.response or "")


def test_the_score_is_the_services_reward(call: Call, listen: Any, tiny_checkpoint: Any) -> None:
    with listen(models=[tiny_checkpoint]) as url:
        found = call(**verls("Because.", question="Why?"), url=url)
        with RewardClient(url) as client:
            [reward] = client.score([("Why?", "Because.")]).rewards
    assert found == {"score": pytest.approx(reward, abs=1e-6), "plaudit_failed": 0.0}


def test_the_prompt_may_be_messages_as_parquet_gives_them(call: Call) -> None:
    system = {"role": "system", "content": "s", "name": None}
    messages = np.array([system, {"role": "user", "content": "u", "name": None}])
    with FakeServer(lambda item: len(item.prompt or "")) as server:
        found = call(**verls("r", raw=messages), url=server.url, prompt_key="raw")
    assert found["score"] == 2.0


def test_a_dataset_without_the_prompt_is_told_where_to_put_it(call: Call) -> None:
    with pytest.raises(ValueError, match=r"extra_info has no 'question'.*prompt_key"):
        call(**verls("r"), url="http://127.0.0.1:9")


def test_a_failure_raises_unless_a_number_is_chosen_for_it(call: Call) -> None:
    with FakeServer(rule) as server:
        with pytest.raises(ItemsFailed, match="too-long"):
            call(**verls("bad", question="q"), url=server.url)
        found = call(**verls("bad", question="q"), url=server.url, failed=-2.0)
        assert found == {"score": -2.0, "plaudit_failed": 1.0}
        with pytest.raises(ValueError, match="failed: verl has no reward None"):
            call(**verls("bad", question="q"), url=server.url, failed="none")


def test_an_ensembles_penalty_and_disagreement(call: Call) -> None:
    """Members at 1 and 5: mean 3, variance 8."""
    with FakeServer(rule, offsets=(-2, 2)) as server:
        options = {"url": server.url, "aggregate": "uwo", "coefficient": 0.25, "failed": 0.5}
        good, bad = (call(**verls(text, question="q"), **options) for text in ("abc", "bad"))
    assert good["score"] == pytest.approx(3 - 0.25 * 8)
    assert good["plaudit_disagreement"] == pytest.approx(math.sqrt(8))
    assert good.keys() == bad.keys()  # verl makes columns of the first sample's keys
    assert (bad["score"], bad["plaudit_failed"]) == (0.5, 1.0)


LOOP = "verl.experimental.reward_loop.reward_manager"
# What the files import and this path through them does not touch.
ELSEWHERE: dict[str, dict[str, Any]] = {
    "omegaconf": {"DictConfig": None},
    "verl": {"DataProto": None},
    "verl.utils": {},
    "verl.utils.ray_utils": {"get_event_loop": asyncio.get_running_loop},
    "verl.utils.reward_score": {"default_compute_score": None, "get_default_compute_score": None},
    "verl.trainer": {},
    "verl.trainer.ppo": {},
    "verl.experimental": {},
    "verl.experimental.reward_loop": {},
    LOOP: {},
}


@pytest.fixture
def their(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """verl's loader of functions and its default manager: their files, without what verl needs."""
    for name, members in ELSEWHERE.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__path__=[], **members))

    def load(name: str) -> Any:
        path = client_file(name.replace(".", "/") + ".py")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    load("verl.utils.import_utils")
    load(f"{LOOP}.base")
    sys.modules[LOOP].register = load(f"{LOOP}.registry").register  # type: ignore[attr-defined]
    return SimpleNamespace(
        get_custom_reward_fn=load("verl.trainer.ppo.reward").get_custom_reward_fn,
        NaiveRewardManager=load(f"{LOOP}.naive").NaiveRewardManager,
    )


class Data(list[SimpleNamespace]):
    """As much of verl's DataProto as the manager uses: a list of samples, cut into lists."""

    def __getitem__(self, key: Any) -> Any:
        one = super().__getitem__(key)
        return Data(one) if isinstance(key, slice) else one


@pytest.mark.parametrize("name", ["compute_score", "compute_score_async"])
def test_verls_own_loader_and_reward_manager(their: SimpleNamespace, name: str) -> None:
    row = {"data_source": "d", "reward_model": {"ground_truth": "8"}}
    row |= {"extra_info": {"question": "Why?"}}
    batch = {"responses": torch.ones(4), "attention_mask": torch.tensor([1, 1, 1, 1, 0])}
    data = Data([SimpleNamespace(batch=batch, non_tensor_batch=row)])
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: "x" * len(ids))

    async def score(url: str) -> Any:
        module = "pkg://plaudit.integrations.verl"
        custom = {"path": module, "name": name, "reward_kwargs": {"url": [url]}}
        config = SimpleNamespace(reward={"custom_reward_function": custom})
        reward = their.get_custom_reward_fn(config)
        return await their.NaiveRewardManager(config, tokenizer, reward).run_single(data)

    with FakeServer(rule) as server:
        found = at_once(score)(server.url)
    assert found["reward_score"] == 3.0
    assert found["reward_extra_info"] == {"score": 3.0, "plaudit_failed": 0.0}
