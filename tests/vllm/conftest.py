"""A tiny model behind the real vLLM engine on this machine's CPU: ``make test-vllm``."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
    registry: Registry
    client: httpx2.AsyncClient

    @property
    def member(self) -> Member:
        return self.registry.model(None)

    @property
    def core(self) -> Core:
        (core,) = self.engine._cores
        return core

    async def until_ready(self) -> None:
        async with asyncio.timeout(180):
            while (await self.client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.1)

    async def until_busy(self, count: int = 1) -> None:
        """Until ``count`` of what was submitted are on their way to the core."""
        async with asyncio.timeout(60):
            while self.core._llm.get_num_unfinished_requests() < count:
                await asyncio.sleep(0)


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Served]:
    metrics = Metrics()
    engine = VllmEngine(settings, metrics)
    registry = await Registry.open(engine, sources(settings), metrics)
    app = create_app(settings, registry, metrics)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield Served(engine, registry, client)


@pytest.fixture(scope="session")
def serve() -> Callable[[Settings], AbstractAsyncContextManager[Served]]:
    """``async with serve(settings) as served``. A start takes seconds: share it in a module."""
    return started


@pytest.fixture(scope="session")
def directory(tmp_path_factory, tokenizer, save_plain, make_complete) -> Path:
    """Heads of 64, which vLLM's CPU attention has; no problem_type, so that its default squashes;
    weights with which Transformers in fp32 are 3e-6 off float64 (with .2 they are 3e-5 off)."""
    plain = save_plain(
        tmp_path_factory.mktemp("vllm") / "tiny", tokenizer, seed=0, initializer_range=0.1,
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
        canary_seconds=86400,  # the service's own work stays out of the tests'
        _cli_parse_args=False,
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served(settings) -> AsyncIterator[Served]:
    async with started(settings) as served:
        yield served
