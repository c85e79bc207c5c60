"""``plaudit serve``: load, verify, say what is served, listen."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # models are directories: what would fetch, fails

import uvicorn
import uvloop
from fastapi import FastAPI
from msgspec import UNSET

from plaudit import scan
from plaudit.checkpoint import CheckpointError
from plaudit.wire import ModelInfo
from service import admin, logs, traces
from service.app import create_app
from service.engines.choice import engine_of
from service.metrics import Metrics
from service.receiving import Receiving
from service.registry import Registry, sources
from service.settings import RECEIVE_SECONDS, Settings, SettingsError, load
from service.timings import DRAIN_SECONDS
from service.traces import Traces


def main(argv: Sequence[str]) -> int:
    try:
        settings = load(argv)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (SettingsError, CheckpointError) as error:
        print(f"plaudit serve: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # uvicorn has finished what was accepted
        return 130
    except asyncio.CancelledError:  # SIGTERM while loading
        return 143
    return 0


async def serve(settings: Settings) -> None:
    """Load, listen until a signal, and stop. An engine lives in the loop that serves."""
    metrics = Metrics(traces_of(settings))
    admin_socket = None
    if settings.admin_port is not None:
        admin_socket = admin.bind(settings.admin_host, settings.admin_port)
    print("loading …", file=sys.stderr, flush=True)
    registry = await load_registry(settings, metrics)
    logs.configure(settings.log_level)
    warn_of_scales(registry)
    app = create_app(settings, registry, metrics)
    print(banner(settings, registry), file=sys.stderr, flush=True)
    config = listener(app, settings.host, settings.port, settings.receive_seconds)
    server = uvicorn.Server(config)
    app.state.health.stopping = lambda: server.should_exit
    if admin_socket is None:
        await server.serve()
    else:
        beside = admin.create_admin(app.state.health, metrics, registry)
        other = listener(beside, settings.admin_host, 0, settings.receive_seconds)
        await admin.serve_both(server, uvicorn.Server(other), admin_socket)


def traces_of(settings: Settings) -> Traces:
    """Where traces go. Refused without the packages that the setting needs; without them a
    variable that is everybody's, OTEL_…, is left alone and said so."""
    if not traces.wanted(settings.otlp_endpoint):
        return traces.OFF
    try:
        return traces.to(settings.otlp_endpoint)
    except ImportError:
        if settings.otlp_endpoint is not None:
            raise SettingsError("--otlp-endpoint: pip install 'plaudit[otel]'") from None
        print("no traces, for which: pip install 'plaudit[otel]'", file=sys.stderr)
        return traces.OFF


def listener(
    app: FastAPI, host: str, port: int, receive_seconds: float = RECEIVE_SECONDS
) -> uvicorn.Config:
    """How the application is served over HTTP."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        http=partial(Receiving, seconds=receive_seconds),
        ws="none",
        server_header=False,
        proxy_headers=False,  # a trusted network is the socket's, not what a header says
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


async def load_registry(settings: Settings, metrics: Metrics) -> Registry:
    """Everything that is wanted, loaded. SIGTERM meanwhile closes the engine, whose processes would
    outlive this one; later it is uvicorn's."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    wanted = sources(settings)
    try:
        say_programs(await asyncio.to_thread(scan.refuse, [*wanted.models.values()]))
        return await Registry.open(engine_of(settings, metrics), wanted, metrics)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def say_programs(notes: Sequence[tuple[Path, scan.Finding]]) -> None:
    """What the scan of the models has noted, one line for each directory."""
    for directory, found in groupby(notes, key=lambda pair: pair[0]):
        named = "; ".join(f"{finding.file}: {finding.what}" for _, finding in found)
        print(f"  noted in {directory}: {named}", file=sys.stderr, flush=True)


def warn_of_scales(registry: Registry) -> None:
    for bundle in registry.bundles.values():
        warning = bundle.scale_warning()
        if warning is not None:
            logs.log.warning("objectives %s: %s", bundle.name, warning)


def banner(settings: Settings, registry: Registry) -> str:
    """What an operator wants to know at start, and a curl to copy."""
    url = f"http://{settings.host}:{settings.port}"
    cache = "memory and Redis" if settings.redis_url else "memory"
    playground = f"playground at {url}/, " if settings.playground else ""
    lines = [f"Plaudit at {url} ({playground}docs at {url}/docs)"]
    for info in registry.infos():
        lines.append(
            f"  {info.kind:10} {info.name}  {info.revision[:19]}  {info.max_tokens} tokens, "
            f"{info.dtype}{of_what(info)}"
        )
    for trunk in registry.engine.trunks:
        lines.append(
            f"  {'shared':10} {trunk.shared} of {trunk.blocks} blocks, computed once for "
            f"{', '.join(trunk.members)}"
        )
    if settings.admin_port is not None:
        lines.append(f"  operations: http://{settings.admin_host}:{settings.admin_port}/ops")
    lines.append(f"  cache: {cache}; API key: {'required' if settings.keys() else 'none needed'}")
    if settings.admin_port is not None:
        there = f"http://{settings.admin_host}:{settings.admin_port}"
        lines.append(f"  admin: {there}/metrics, {there}/readyz")
    lines.append(f"  trainers' own routes: {of_the_trainers(settings, registry)}")
    lines.append(curl(settings, registry, url))
    return "\n".join(lines)


def of_the_trainers(settings: Settings, registry: Registry) -> str:
    """What a route of another server's format scores with where that names no model."""
    whole = registry.wholes() if settings.compat_model is None else [settings.compat_model]
    if len(whole) == 1:
        return whole[0]
    return f"one of {', '.join(whole)}, by --compat-model; see docs/compat.md"


def of_what(info: ModelInfo) -> str:
    """The members of an ensemble or a bundle."""
    if not info.members:
        return ""
    centre = "" if info.centre is UNSET else f" around {info.centre}"
    return f", of {', '.join(info.members)}{centre}"


def curl(settings: Settings, registry: Registry, url: str) -> str:
    item = {"prompt": "How do I boil an egg?", "response": "Eight minutes in boiling water."}
    route, named = "score", {"model": next(iter(registry.members))}
    if settings.ensemble:
        route, named = "ensemble_score", {"ensemble": next(iter(registry.ensembles))}
    body = json.dumps({**named, "items": [item]})
    key = " -H 'Authorization: Bearer KEY'" if settings.keys() else ""
    return f"  curl -s {url}/{route}{key} -d '{body}'"
