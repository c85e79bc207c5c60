"""The page at ``/ops`` of the admin port: how the service does now, without Grafana.

It asks ``/metrics`` of its own origin every two seconds and computes rates and quantiles in the
browser; ``/ops/models`` says what the names in the metrics stand for.
"""

from fastapi import FastAPI

from service.model_list import add_models
from service.registry import Registry
from service.routes import OPS_MODELS
from service.ui import assets

SCRIPTS = ("ops", "charts", "element", "exposition", "numbers", "panels", "scrapes")


def add_ops(app: FastAPI, registry: Registry) -> None:
    """The page, its files, and what is loaded. ``app`` must serve ``/metrics`` too."""
    scripts = {f"/ui/{name}.js": f"files/{name}.js" for name in SCRIPTS}
    own = {"/ops": "files/ops.html", "/ui/ops.css": "files/ops.css"}
    assets.add(app, assets.SHARED | own | scripts)
    # As GET /models of the main port, which may need a key that this port does not.
    add_models(app, registry, OPS_MODELS.path)
