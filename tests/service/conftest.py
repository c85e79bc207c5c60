"""A served application over tiny members, spoken to through ASGI or a real socket."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import torch
import uvicorn
from both_ports import Both
from fastapi import FastAPI
from redis_process import RedisServer, serving_redis
from transformers import AutoModelForSequenceClassification

from plaudit import checkpoint
from plaudit.calibration import Calibration
from plaudit.checkpoint import Member
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from service.metrics import Metrics
from service.registry import Registry
from service.serve import listener
from service.settings import Settings
from service.sources import sources
from training.service_process import free_port

Serve = Callable[..., Any]


async def build(metrics: Metrics, **settings: Any) -> FastAPI:
    asked = {"dtype": "float32", **settings}
    read = Settings(device="cpu", _cli_parse_args=False, **asked)
    registry = await Registry.open(TorchEngine(read, metrics), sources(read), metrics)
    return create_app(read, registry, metrics)


@asynccontextmanager
async def client_of(building: Awaitable[FastAPI]) -> AsyncIterator[httpx2.AsyncClient]:
    app = await building
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def serve(metrics: Metrics) -> Serve:
    """``async with serve(models=[…]) as client``: the application with its lifespan."""
    return lambda **settings: client_of(build(metrics, **settings))


@pytest.fixture
def root(tmp_path: Path, members: list[Path]) -> Path:
    """A model root with the second and the third member as ``new`` and ``newer``."""
    found = tmp_path / "root"
    for name, source in (("new", members[1]), ("newer", members[2])):
        shutil.copytree(source, found / name)
    return found


@pytest.fixture
def ports(metrics: Metrics, root: Path) -> Callable[..., Both]:
    """``ports(models)``: the service with both ports, the model root and a key, "operator"."""

    def make(*models: Path, **settings: Any) -> Both:
        asked = {"admin_keys": "ops:operator", "model_root": root, "admin_port": free_port()}
        return Both(metrics, models=list(models), **asked | settings)

    return make


@pytest.fixture
def ensemble_file(tmp_path: Path, members: list[Path]) -> Path:
    path = tmp_path / "ens.yaml"
    path.write_text(f"members: {[str(m) for m in members]}\n")
    return path


@pytest.fixture
def average(make_complete: Callable[..., Path]) -> Callable[[Path, list[Path]], Path]:
    """``average(directory, of)``: the mean of weights as a full checkpoint (WARM), with
    a calibration of its own."""

    def make(directory: Path, of: list[Path], **changes: object) -> Path:
        models = [AutoModelForSequenceClassification.from_pretrained(one) for one in of]
        states = [model.state_dict() for model in models]
        mean = {
            name: torch.stack([state[name].double() for state in states]).mean(0).float()
            for name in states[0]
        }
        shutil.copytree(of[0], directory)
        (directory / "reward.json").unlink()
        models[0].load_state_dict(mean)
        models[0].save_pretrained(directory)
        parts = tuple(Member(str(one), checkpoint.read(one)[1], 1 / len(of)) for one in of)
        own = Calibration("standardise", mean=0.25, std=1.5)
        return make_complete(directory, kind="warm", members=parts, calibration=own, **changes)

    return make


@pytest.fixture
def copy_with() -> Callable[..., Path]:
    """``copy_with(source, directory, max_tokens=100)``: a checkpoint with another manifest, without
    probes, which might not fit it any more."""

    def make(source: Path, directory: Path, **changes: object) -> Path:
        shutil.copytree(source, directory)
        manifest, _ = checkpoint.read(source)
        checkpoint.write(directory, msgspec.structs.replace(manifest, probes=(), **changes))
        return directory

    return make


@pytest.fixture
def leaky_file(
    tmp_path: Path,
    members: list[Path],
    average: Callable[..., Path],
    copy_with: Callable[..., Path],
) -> Path:
    """``leaky.yaml``: members of which one, ``short``, takes 150 tokens and may be missing, around
    an average that takes 200."""
    copy_with(members[2], tmp_path / "short", max_tokens=150)
    average(tmp_path / "warm", members, max_tokens=200)
    path = tmp_path / "leaky.yaml"
    path.write_text(
        f"members: [short, {members[0]}, {members[1]}]\n"
        "min_members: 2\naggregate: uwo\ncentre: warm\n"
    )
    return path


@contextmanager
def listening(building: Coroutine[Any, Any, FastAPI]) -> Iterator[str]:
    """The application behind uvicorn on a free loopback port."""
    with ThreadPoolExecutor(1) as elsewhere:  # a test may have a loop running here
        app = elsewhere.submit(asyncio.run, building).result()
    server = uvicorn.Server(listener(app, "127.0.0.1", 0))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def listen(metrics: Metrics) -> Serve:
    """``with listen(models=[…]) as url``: a real server."""
    return lambda **settings: listening(build(metrics, **settings))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with serving_redis(tmp_path, "--save", "") as server:
        yield server
