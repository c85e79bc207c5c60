"""The application over tiny members, spoken to through ASGI or a real socket."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
import schemathesis
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.engines.torch_engine import TorchEngine
from service.metrics import Metrics
from service.registry import Registry
from service.serve import access_of, admin_of, listener
from service.settings import Settings
from service.sources import sources

Build = Callable[..., AbstractAsyncContextManager[FastAPI]]
BuildBoth = Callable[..., AbstractAsyncContextManager[tuple[FastAPI, FastAPI]]]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


@asynccontextmanager
async def built(**settings: Any) -> AsyncIterator[FastAPI]:
    read = Settings(dtype="float32", device="cpu", _cli_parse_args=False, **settings)
    metrics = Metrics()
    registry = await Registry.open(TorchEngine(read, metrics), sources(read), metrics)
    app = create_app(read, registry, metrics)
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def built_both(**settings: Any) -> AsyncIterator[tuple[FastAPI, FastAPI]]:
    read = Settings(dtype="float32", device="cpu", _cli_parse_args=False, **settings)
    metrics = Metrics()
    registry = await Registry.open(TorchEngine(read, metrics), sources(read), metrics)
    access = access_of(read, metrics)
    app = create_app(read, registry, metrics, access.keys)
    async with app.router.lifespan_context(app):
        yield app, admin_of(read, app, registry, metrics, access)


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with built(**settings) as app:
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.fixture(scope="session")
def build() -> Build:
    """``async with build(models=[…]) as app``: the application with its lifespan."""
    return built


@pytest.fixture
def build_both() -> BuildBoth:
    """``async with build_both(models=[…]) as (app, admin)``: with that of the admin port."""
    return built_both


@pytest.fixture
def serve() -> Serve:
    """``async with serve(models=[…]) as client``: the same, to be asked."""
    return served


@pytest.fixture
def ensemble_file(tmp_path: Path, members: list[Path]) -> Path:
    path = tmp_path / "ens.yaml"
    path.write_text(f"members: {[str(m) for m in members]}\n")
    return path


@pytest.fixture(scope="module")
def url(
    members: list[Path], tmp_path_factory: pytest.TempPathFactory, build: Build
) -> Iterator[str]:
    """A server with one model, which is its ensemble too."""
    file = tmp_path_factory.mktemp("ensemble") / "ens.yaml"
    file.write_text(f"members: [{members[0]}]\n")
    running: list[uvicorn.Server] = []

    async def serve() -> None:
        async with build(models=[file]) as app:
            config = listener(app, "127.0.0.1", 0)
            config.lifespan = "off"
            running.append(uvicorn.Server(config))
            await running[0].serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    while not (running and running[0].started):
        thread.join(0.01)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{running[0].servers[0].sockets[0].getsockname()[1]}"
    running[0].should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def schema(url: str) -> Any:
    return schemathesis.openapi.from_dict(requests.get(f"{url}/openapi.json", timeout=60).json())
