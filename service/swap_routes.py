"""What the admin port lets holders of its keys do."""

import msgspec
from fastapi import FastAPI, Request, Response

from service.bodies import Bodies
from service.metrics import Metrics
from service.swap import Swaps
from service.swap_request import SwapRequest

MAX_BODY_BYTES = 4096


def add_swap(app: FastAPI, swaps: Swaps, metrics: Metrics) -> None:
    bodies, decoder = Bodies(MAX_BODY_BYTES, metrics), msgspec.json.Decoder(SwapRequest)

    @app.post("/admin/swap", include_in_schema=False)
    async def swap(request: Request) -> Response:
        """Serve another checkpoint under the name of a loaded model."""
        asked = await bodies.read(request, decoder)
        names = {"model": asked.model, "checkpoint": asked.checkpoint}
        request.state.act.begins(request.state.client, **names)
        answer = await swaps.swap(asked, request.state.client)
        return Response(msgspec.json.encode(answer), media_type="application/json")
