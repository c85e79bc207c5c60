"""The admin port: probes, metrics and their page beside the traffic, for those who run the service.

It is served by the same event loop. What it shows has no text of anybody, and needs a key where
others than this machine can reach it; what it does needs one everywhere.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import uvicorn
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from plaudit.version import VERSION
from service.audit import Audit
from service.edge import Edge, http_failure
from service.entrance import Entrance, free_on_admin
from service.health import Health
from service.keys import Keys
from service.metrics import Metrics
from service.probe_routes import Readiness, add_metrics, add_probes
from service.registry import Registry
from service.routes import ACTS, ADMIN, Routes
from service.swap import Swaps
from service.swap_routes import add_listing, add_swap
from service.ui.ops import add_ops


class Loading:
    """In the place of Health before there is a model."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics

    def unready(self) -> str:
        return f"the models are being loaded; phase: {self._metrics.latest_phase}"


@dataclass(frozen=True)
class Access:
    """Who may what on the admin port. ``open_metrics``: they need no key."""

    keys: Keys
    open_metrics: bool
    audit: Audit

    def entrance(self, routes: Routes) -> Entrance:
        return Entrance(self.keys, [], routes, partial(free_on_admin, self.open_metrics))


def create_starting(metrics: Metrics, access: Access) -> FastAPI:
    """What the admin port says while models load: a service that starts is not one that is down.
    Every route but probes and metrics is none yet."""
    app = watched(Loading(metrics), metrics, Routes(ADMIN), access)
    app.state.instead = lambda _: "not before models are loaded"
    return app


def create_admin(
    health: Health,
    metrics: Metrics,
    registry: Registry,
    access: Access,
    swaps: Swaps | None = None,
) -> FastAPI:
    """The application of the admin port."""
    app = watched(health, metrics, Routes([*ADMIN, *ACTS] if swaps else ADMIN), access)
    app.state.instead = lambda _: "the admin port has /ops, /metrics, /livez and /readyz"

    @app.get("/")
    async def start() -> Response:
        """The page."""
        return RedirectResponse("/ops")

    add_ops(app, registry)
    if swaps is not None:
        add_swap(app, swaps, metrics)
        add_listing(app, swaps, registry, health.canary)
    return app


def watched(health: Readiness, metrics: Metrics, routes: Routes, access: Access) -> FastAPI:
    """An application of the admin port with its probes and metrics."""
    app = FastAPI(title="Plaudit admin", version=VERSION, openapi_url=None)
    app.add_exception_handler(HTTPException, http_failure)
    entrance, audit = access.entrance(routes), access.audit
    app.add_middleware(Edge, routes=routes, entrance=entrance, metrics=metrics, audit=audit)
    add_probes(app, health)
    add_metrics(app, metrics)
    return app


async def serve_both(
    main: uvicorn.Server,
    main_at: list[socket.socket],
    admin: uvicorn.Server,
    admin_at: list[socket.socket],
) -> None:
    """Until ``main`` has stopped, which alone hears signals; ``admin`` answers while it drains, and
    then stops too."""
    async with answering(admin, admin_at):
        await main.serve(main_at)


@asynccontextmanager
async def answering(server: uvicorn.Server, at: list[socket.socket]) -> AsyncIterator[None]:
    """``server`` answers while the block runs, and closes ``at`` after it."""
    server.capture_signals = nullcontext
    beside = asyncio.create_task(server.serve(at))
    try:
        yield
    finally:
        server.should_exit = True
        await beside
