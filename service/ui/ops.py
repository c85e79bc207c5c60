"""The page at ``/ops`` of the admin port: how the service does now, without Grafana.

It asks ``/metrics`` of its own origin every two seconds and computes rates and quantiles in the
browser; ``/ops/models`` says what the names in the metrics stand for.
"""

import msgspec
from fastapi import FastAPI, Response

from plaudit.wire import ModelList
from service.registry import Registry
from service.ui import assets

SCRIPTS = ("ops", "charts", "element", "exposition", "numbers", "panels", "scrapes")


def add_ops(app: FastAPI, registry: Registry) -> None:
    """The page, its files, and what is loaded. ``app`` must serve ``/metrics`` too."""
    scripts = {f"/ui/{name}.js": f"files/{name}.js" for name in SCRIPTS}
    own = {"/ops": "files/ops.html", "/ui/ops.css": "files/ops.css"}
    assets.add(app, assets.SHARED | own | scripts)

    @app.get("/ops/models", include_in_schema=False)
    async def loaded() -> Response:
        """As ``GET /models`` of the main port, which may need a key that this port does not."""
        listed = ModelList(list(registry.infos()))
        return Response(msgspec.json.encode(listed), media_type="application/json")
