"""What a cluster asks: whether the service lives, whether it is ready, how it is."""

from typing import Protocol

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.metrics import Metrics
from service.problems import Failure

RETRY_AFTER_SECONDS = 5


class Readiness(Protocol):
    def unready(self) -> str | None:
        """Why no work should be sent, or None."""


def add_probes(app: FastAPI, health: Readiness) -> None:
    @app.get("/livez")
    async def livez() -> Response:
        """Whether the process lives: its event loop turns."""
        return Response(b'{"status":"alive"}', media_type="application/json")

    @app.get("/readyz")
    async def readyz() -> Response:
        """Whether it can score: models are loaded, their probes gave the stored scores, and the
        engine computes."""
        reason = health.unready()
        if reason is not None:
            raise Failure("not-ready", reason, retry_after_seconds=RETRY_AFTER_SECONDS)
        return Response(b'{"status":"ready"}', media_type="application/json")


def add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics")
    async def metrics_text() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
