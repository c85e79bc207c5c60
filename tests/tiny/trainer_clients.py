"""The HTTP clients of trainers, as they ask a reward service and as they ask again."""

import asyncio
import importlib.util
import logging
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import aiohttp
import pytest
from steady_callers import Ask

# What verl's file imports and the loop towards a reward model does not touch.
ELSEWHERE: dict[str, dict[str, None]] = {
    "ray": {},
    "ray.actor": {"ActorHandle": None},
    "omegaconf": {"DictConfig": None, "open_dict": None},
    "tensordict": {"TensorDict": None},
    "verl.protocol": {"DataProto": None, "pad_dataproto_to_divisor": None},
    "verl.single_controller.ray.base": {"RayResourcePool": None},
    "verl.trainer.ppo.reward": {"load_reward_manager": None, "resolve_reward_manager_cls": None},
    "verl.utils": {"hf_tokenizer": None},
    "verl.utils.fs": {"copy_to_local": None},
    "verl.utils.ray_utils": {"get_event_loop": None},
    "verl.experimental.reward_loop.reward_model": {"RewardModelManager": None},
}
PACKAGES = [
    "verl", "verl.single_controller", "verl.single_controller.ray", "verl.trainer",
    "verl.trainer.ppo", "verl.experimental", "verl.experimental.reward_loop",
]  # fmt: skip


def client_file(name: str) -> Path:
    """A file of a trainer's own package, wherever ``make test`` installed it."""
    places = [Path(sys.prefix, "clients"), *map(Path, sys.path)]
    found = [place / name for place in places if (place / name).is_file()]
    if not found:
        pytest.skip(f"{name} is not installed: make .venv/.dev")
    return found[0]


def openrlhf_agent(patch: pytest.MonkeyPatch) -> ModuleType:
    """OpenRLHF's client; the package itself imports deepspeed and more."""
    logger = SimpleNamespace(init_logger=logging.getLogger)
    patch.setitem(sys.modules, "openrlhf.utils.logging_utils", logger)
    return _loaded("agent", client_file("openrlhf/utils/agent.py"))


def verl_reward_loop(patch: pytest.MonkeyPatch) -> ModuleType:
    """verl's reward loop, without the cluster that it imports."""
    for name in PACKAGES:
        patch.setitem(sys.modules, name, SimpleNamespace(__path__=[]))
    for name, members in ELSEWHERE.items():
        patch.setitem(sys.modules, name, SimpleNamespace(__path__=[], **members))
    file = client_file("verl/experimental/reward_loop/reward_loop.py")
    return _loaded("verl.experimental.reward_loop.loop", file)


def _loaded(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def openrlhf_rewards(agent: ModuleType, url: str) -> Ask:
    """``await ask(text)``: five attempts, a second apart, each over a connection of its own."""
    executor = agent.SingleTurnAgentExecutor(f"{url}/get_reward")

    async def ask(text: str) -> float:
        (answer,) = await executor._fetch_rewards_via_http([text], [""], [None])
        return float(answer["rewards"][0])

    return ask


def verl_rewards(reward_loop: ModuleType, url: str) -> Ask:
    """``await ask(text)``: sixteen attempts, 2^n seconds apart, each over one of its own."""
    worker = object.__new__(reward_loop.RewardLoopWorker)
    worker.reward_router_address = url.removeprefix("http://")

    async def ask(text: str) -> float:
        payload = {"input": text, "use_activation": False}
        answer = await worker._post_request(payload, "classify")
        return float(answer["data"][-1]["probs"][-1])

    return ask


def slime_rewards(session: aiohttp.ClientSession, url: str) -> Ask:
    """``await ask(text)`` by the rules of slime/rollout/rm_hub/__init__.py, which imports too much
    to be loaded: ten attempts after whatever failure, 2^n seconds and a chance apart, over a pool
    of 64 connections (``slime_session``)."""

    async def ask(text: str) -> float:
        payload = {"prompt": text[:1], "response": text[1:], "label": None}
        for attempt in range(10):
            try:
                async with session.post(f"{url}/slime", json=payload) as answer:
                    answer.raise_for_status()
                    return float(await answer.json())
            except Exception:
                if attempt == 9:
                    raise
                await asyncio.sleep(min(2**attempt, 30) + random.random())
        raise AssertionError

    return ask


def slime_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=64), timeout=aiohttp.ClientTimeout(total=120)
    )
