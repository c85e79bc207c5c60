"""``plaudit serve``: load, verify, say what is served, listen."""

import asyncio
import os
import signal
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from itertools import groupby
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # models are directories: what would fetch, fails

import uvicorn
import uvloop
from fastapi import FastAPI
from transformers.utils.logging import disable_progress_bar

from plaudit import scan
from plaudit.checkpoint import CheckpointError
from service import (
    admin,
    descriptors,
    key_reload,
    listening,
    logs,
    redis_connection,
    stopping,
    traces,
    watchdog,
)
from service.admin import Access
from service.app import create_app
from service.audit import Audit
from service.banner import banner
from service.engines.choice import engine_of
from service.metrics import Metrics
from service.receiving import Receiving
from service.registry import Registry
from service.settings import RECEIVE_SECONDS, Settings, SettingsError, load
from service.sources import sources
from service.stopping import Stopping
from service.swap import Swaps
from service.timings import DRAIN_SECONDS
from service.traces import Traces


def main(argv: Sequence[str]) -> int:
    try:
        settings = load(argv)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return run(runner, settings)
    except (SettingsError, CheckpointError) as error:
        logs.say(f"plaudit serve: {error}")
        return 2
    except KeyboardInterrupt:  # before anything is loaded
        return 130
    finally:
        logs.close()


def run(runner: asyncio.Runner, settings: Settings) -> int:
    """Serve. A signal while models are loaded ends the process: loading goes on in its thread, for
    which the runner and the interpreter would wait."""
    try:
        return runner.run(serve(settings))
    except KeyboardInterrupt:
        watchdog.end(130)
    except asyncio.CancelledError:  # by SIGTERM
        watchdog.end(143)


async def serve(settings: Settings) -> int:
    """Load, listen until a signal, and stop: 0, or 130 after SIGINT. An engine lives in the loop
    that serves."""
    with ExitStack() as held:
        return await serve_at(settings, *bind(settings, held))


async def serve_at(
    settings: Settings, at: list[socket.socket], admin_at: list[socket.socket]
) -> int:
    """The same on sockets that are taken."""
    metrics = Metrics(traces_of(settings))
    access = access_of(settings, metrics)
    with key_reload.at_sighup(settings, access.keys, access.audit):
        return await serve_keyed(settings, at, admin_at, metrics, access)


async def serve_keyed(
    settings: Settings,
    at: list[socket.socket],
    admin_at: list[socket.socket],
    metrics: Metrics,
    access: Access,
) -> int:
    """The same with keys."""
    descriptors.raise_limit()
    logs.say("loading …")
    async with AsyncExitStack() as unserved:
        async with probed(settings, metrics, admin_at, access):
            registry = await load_registry(settings, metrics)
            unserved.push_async_callback(registry.engine.close)
            cache = await of_cache(settings)
        unserved.pop_all()  # nothing is awaited from here to signals_to, so no SIGTERM is heard
    logs.configure(settings.log_level)
    warn_of_scales(registry)
    key_reload.warn(settings, access.keys)
    app = create_app(settings, registry, metrics, access.keys)
    listening.listen(at)
    admin_place = listening.place_of(admin_at) if admin_at else None
    logs.say(banner(settings, registry, listening.place_of(at), admin_place, cache))
    config = listener(app, settings.host, settings.port, settings.receive_seconds)
    server = uvicorn.Server(config)
    end = Stopping(server, stopping.delay_seconds(settings))
    app.state.health.stopping = end.begun
    with stopping.signals_to(end, server):
        if settings.admin_port is None:
            await server.serve(at)
        else:
            beside = admin_server(admin_of(settings, app, registry, metrics, access), settings)
            await admin.serve_both(server, at, beside, admin_at)
    return 130 if signal.SIGINT in end.heard else 0


def access_of(settings: Settings, metrics: Metrics) -> Access:
    counted = metrics.saturation
    audit = Audit(settings.audit_file, counted.audit_failures, counted.audit_left_out)
    return Access(settings.keys(), settings.metrics_are_open(), audit)


def admin_of(
    settings: Settings, app: FastAPI, registry: Registry, metrics: Metrics, access: Access
) -> FastAPI:
    """What the admin port serves beside ``app``."""
    swaps = None
    if settings.model_root is not None:
        state, root = app.state, settings.model_root
        swaps = Swaps(state.scorer, state.canary, metrics, access.audit, root)
        state.before_engine.append(swaps.close)
    return admin.create_admin(app.state.health, metrics, registry, access, swaps)


def bind(settings: Settings, held: ExitStack) -> tuple[list[socket.socket], list[socket.socket]]:
    """Sockets of the main port and of the admin port, of which there may be none; ``held`` closes
    them."""
    at = [*map(held.enter_context, listening.bind(settings.host, settings.port, "--"))]
    if settings.admin_port is None:
        return at, []
    beside = listening.bind(settings.admin_host, settings.admin_port, "--admin-")
    return at, [*map(held.enter_context, beside)]


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
        logs.say("no traces, for which: pip install 'plaudit[otel]'")
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


def admin_server(app: FastAPI, settings: Settings) -> uvicorn.Server:
    return uvicorn.Server(listener(app, settings.admin_host, 0, settings.receive_seconds))


@asynccontextmanager
async def probed(
    settings: Settings, metrics: Metrics, at: list[socket.socket], access: Access
) -> AsyncIterator[None]:
    """The admin port, if there is one, answers while the block loads models. ``at`` stays open for
    the server that comes after it."""
    if not at:
        yield
        return
    listening.listen(at)
    meanwhile = admin_server(admin.create_starting(metrics, access), settings)
    async with admin.answering(meanwhile, [one.dup() for one in at]):
        yield


async def load_registry(settings: Settings, metrics: Metrics) -> Registry:
    """Everything that is wanted, loaded. SIGTERM cancels the caller, who closes the engine, whose
    processes would outlive this one; so it does until ``stopping.signals_to`` takes it over."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    wanted = sources(settings)
    disable_progress_bar()  # a bar is no line of JSON, and loading would fail where stderr does
    say_programs(await asyncio.to_thread(scan.refuse, [*wanted.models.values()]))
    return await Registry.open(engine_of(settings, metrics), wanted, metrics)


async def of_cache(settings: Settings) -> str:
    """Where scores are kept. A Redis that does not answer costs latency only, so it ends no
    start."""
    if settings.redis_url is None:
        return "memory"
    url, patience = settings.redis_url.get_secret_value(), settings.redis_timeout_ms
    trouble = await redis_connection.trouble(url, patience / 1000)
    if trouble is None:
        return "memory and Redis"
    return f"memory, and Redis once it answers: no PONG within {patience:g} ms ({trouble})"


def say_programs(notes: Sequence[tuple[Path, scan.Finding]]) -> None:
    """What the scan of the models has noted, one line for each directory."""
    for directory, found in groupby(notes, key=lambda pair: pair[0]):
        files = defaultdict(list)
        for _, finding in found:
            files[finding.what].append(finding.file)
        named = "; ".join(f"{of_many(some)}: {what}" for what, some in files.items())
        logs.say(f"  noted in {directory}: {named}")


def of_many(files: Sequence[str]) -> str:
    """A training leaves dozens: plaudit scan names them all."""
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def warn_of_scales(registry: Registry) -> None:
    for bundle in registry.bundles.values():
        warning = bundle.scale_warning()
        if warning is not None:
            logs.log.warning("objectives %s: %s", bundle.name, warning)
