"""The published schema, from the same structs that decode the requests."""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI

from plaudit import wire
from service.routes import Route

BODIES = {
    "/score": (wire.ScoreRequest, wire.ScoreResponse),
    "/ensemble_score": (wire.EnsembleRequest, wire.EnsembleResponse),
    "/models": (None, wire.ModelList),
}
EXAMPLE = {
    "items": [{"prompt": "How do I boil an egg?", "response": "Eight minutes."}],
}


def describe(app: FastAPI, routes: Sequence[Route]) -> None:
    """Give ``app.openapi`` the bodies of the routes that FastAPI does not decode itself."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = with_bodies(original(), routes)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def with_bodies(schema: dict[str, Any], routes: Sequence[Route]) -> dict[str, Any]:
    """The schema with our own bodies and answers, and the bodies that other servers' routes ask."""
    asks = {route.path: route.asks for route in routes if route.asks is not None}
    own = [kind for pair in BODIES.values() for kind in pair if kind is not None]
    types = list(dict.fromkeys([*own, wire.Problem, *asks.values()]))
    found, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    refs = dict(zip(types, found, strict=True))
    schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
    for path, (request, response) in BODIES.items():
        for operation in schema["paths"][path].values():
            if request is not None:
                operation["requestBody"] = body(refs[request], example=EXAMPLE)
            operation["responses"] = {
                "200": {"description": "answered"} | body(refs[response]),
                "default": {"description": "a problem"}
                | body(refs[wire.Problem], media="application/problem+json"),
            }
    for path, kind in asks.items():
        schema["paths"][path]["post"]["requestBody"] = body(refs[kind])
    return schema


def body(ref: Any, media: str = "application/json", example: Any = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": ref}
    if example is not None:
        content["example"] = example
    return {"content": {media: content}}
