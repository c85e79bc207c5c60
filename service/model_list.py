"""What is loaded, for callers and for the page of operations."""

import msgspec
from fastapi import FastAPI, Response

from plaudit.wire import ModelList
from service.registry import Registry


def add_models(app: FastAPI, registry: Registry, path: str) -> None:
    @app.get(path)
    async def models() -> Response:
        """What is loaded, with revisions."""
        listed = ModelList(list(registry.infos()))
        return Response(msgspec.json.encode(listed), media_type="application/json")
