"""What the admin port lets holders of its keys do."""

import msgspec
from fastapi import FastAPI, Request, Response

from service.bodies import Bodies
from service.canary import Canary
from service.metrics import Metrics
from service.origins import ListedModels
from service.registry import Registry
from service.swap import Swaps
from service.swap_request import SwapRequest
from service.swap_state import SwapList

MAX_BODY_BYTES = 4096


def add_swap(app: FastAPI, swaps: Swaps, metrics: Metrics) -> None:
    bodies, decoder = Bodies(MAX_BODY_BYTES, metrics), msgspec.json.Decoder(SwapRequest)

    @app.post("/admin/swap", include_in_schema=False)
    async def swap(request: Request) -> Response:
        """Serve other checkpoints under the names of loaded models: 200 once they are served, 202
        while they are compared."""
        asked = await bodies.read(request, decoder)
        by = request.state.act.begins(request.state.client)
        view = await swaps.ask(asked, by)
        return json(view, 202 if asked.shadow else 200)

    @app.delete("/admin/swap", include_in_schema=False)
    async def cancel(request: Request) -> Response:
        """End the swap that is under way."""
        by = request.state.act.begins(request.state.client)
        return json(await swaps.cancel(by))

    @app.get("/admin/swaps", include_in_schema=False)
    async def states() -> Response:
        """The latest swaps, with what was compared."""
        return json(SwapList(swaps.views()))


def add_listing(app: FastAPI, swaps: Swaps, registry: Registry, canary: Canary) -> None:
    @app.get("/admin/models", include_in_schema=False)
    async def models() -> Response:
        """What is served, from where and since when."""
        return json(ListedModels([*swaps.origins.listed(registry, canary)]))


def json(answer: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")
