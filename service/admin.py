"""The admin port: probes, metrics and their page beside the traffic, for those who run the service.

It is served by the same event loop. What it serves needs no key and has no text of anybody.
"""

import asyncio
import socket
from contextlib import nullcontext

import uvicorn
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from plaudit.version import VERSION
from service.edge import Edge, http_failure
from service.entrance import Entrance
from service.hardening import Keys
from service.health import Health
from service.metrics import Metrics
from service.probe_routes import add_metrics, add_probes
from service.registry import Registry
from service.routes import ADMIN, Routes
from service.ui.ops import add_ops


def create_admin(health: Health, metrics: Metrics, registry: Registry) -> FastAPI:
    """The application of the admin port."""
    app = FastAPI(title="Plaudit admin", version=VERSION, openapi_url=None)
    app.add_exception_handler(HTTPException, http_failure)
    app.state.instead = lambda _: "the admin port has /ops, /metrics, /livez and /readyz"

    @app.get("/")
    async def start() -> Response:
        """The page."""
        return RedirectResponse("/ops")

    routes = Routes(ADMIN)
    entrance = Entrance(Keys([]), [], routes)
    app.add_middleware(Edge, routes=routes, entrance=entrance, metrics=metrics)
    add_probes(app, health)
    add_metrics(app, metrics)
    add_ops(app, registry)
    return app


async def serve_both(
    main: uvicorn.Server,
    main_at: list[socket.socket],
    admin: uvicorn.Server,
    admin_at: list[socket.socket],
) -> None:
    """Until ``main`` has stopped, which alone hears signals; ``admin`` answers while it drains, and
    then stops too."""
    admin.capture_signals = nullcontext
    beside = asyncio.create_task(admin.serve(admin_at))
    try:
        await main.serve(main_at)
    finally:
        admin.should_exit = True
        await beside
