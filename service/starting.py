"""What the admin port says while models load: a service that starts is not one that is down."""

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from plaudit.version import VERSION
from service.edge import Edge, http_failure
from service.entrance import Entrance
from service.hardening import Keys
from service.metrics import Metrics
from service.probe_routes import add_metrics, add_probes
from service.routes import ADMIN, Routes


class Loading:
    """In the place of Health before there is a model."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics

    def unready(self) -> str:
        return f"the models are being loaded; phase: {self._metrics.latest_phase}"


def create_starting(metrics: Metrics) -> FastAPI:
    """Probes and metrics; every other route is none yet."""
    app = FastAPI(title="Plaudit admin", version=VERSION, openapi_url=None)
    app.add_exception_handler(HTTPException, http_failure)
    routes = Routes(ADMIN)
    app.add_middleware(
        Edge, routes=routes, entrance=Entrance(Keys([]), [], routes), metrics=metrics
    )
    add_probes(app, Loading(metrics))
    add_metrics(app, metrics)
    return app
