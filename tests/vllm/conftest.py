"""A tiny model behind the real vLLM engine on this machine's CPU: ``make test-vllm``."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

pytest.importorskip("vllm", reason="vLLM lives in an environment of its own: make test-vllm")

from service.app import create_app
from service.engines.vllm_core import Core
from service.engines.vllm_engine import VllmEngine
from service.member import Member
from service.metrics import Metrics
from service.registry import Registry
from service.settings import Settings
from service.sources import sources


@dataclass
class Served:
    """A started engine and the application above it."""

    engine: VllmEngine
    member: Member
    client: httpx2.AsyncClient

    @property
    def core(self) -> Core:
        (core,) = self.engine._cores
        return core

    async def until_ready(self) -> None:
        async with asyncio.timeout(180):
            while (await self.client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.1)

    async def until_busy(self) -> None:
        """Until some of what was submitted is on its way to the core."""
        async with asyncio.timeout(60):
            while not self.core._llm.get_num_unfinished_requests():
                await asyncio.sleep(0)


@pytest.fixture(scope="session")
def directory(tmp_path_factory, tokenizer, save_plain, make_complete) -> Path:
    """Heads of 64, which vLLM's CPU attention has; no problem_type, so that its default squashes"""
    plain = save_plain(
        tmp_path_factory.mktemp("vllm") / "tiny", tokenizer, seed=0,
        hidden_size=128, num_attention_heads=2, num_key_value_heads=1, problem_type=None,
    )  # fmt: skip
    return make_complete(plain)


@pytest.fixture(scope="session")
def settings(directory) -> Settings:
    return Settings(
        engine="vllm",
        dtype="float32",
        models=[directory],
        vllm_memory=0.1,
        max_batch_tokens=2048,
        deadline_seconds=600,  # longer than two starts of a core
        _cli_parse_args=False,
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served(settings) -> AsyncIterator[Served]:
    metrics = Metrics()
    engine = VllmEngine(settings, metrics)
    registry = await Registry.open(engine, sources(settings), metrics)
    app = create_app(settings, registry, metrics)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield Served(engine, registry.model(None), client)
