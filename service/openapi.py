"""The published schema, from the same structs that decode the requests."""

from typing import Any

import msgspec
from fastapi import FastAPI

from plaudit import wire

BODIES = {
    "/score": (wire.ScoreRequest, wire.ScoreResponse),
    "/ensemble_score": (wire.EnsembleRequest, wire.EnsembleResponse),
    "/models": (None, wire.ModelList),
}
EXAMPLE = {
    "items": [{"prompt": "How do I boil an egg?", "response": "Eight minutes."}],
}


def describe(app: FastAPI) -> None:
    """Give ``app.openapi`` the bodies of the routes that FastAPI does not decode itself."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = with_bodies(original())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def with_bodies(schema: dict[str, Any]) -> dict[str, Any]:
    types = [kind for pair in BODIES.values() for kind in pair if kind is not None]
    _, components = msgspec.json.schema_components(
        [*types, wire.Problem], ref_template="#/components/schemas/{name}"
    )
    schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
    for path, (request, response) in BODIES.items():
        for operation in schema["paths"][path].values():
            if request is not None:
                operation["requestBody"] = body(request, example=EXAMPLE)
            operation["responses"] = {
                "200": {"description": "answered"} | body(response),
                "default": {"description": "a problem"}
                | body(wire.Problem, media="application/problem+json"),
            }
    return schema


def body(kind: type, media: str = "application/json", example: Any = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}
    if example is not None:
        content["example"] = example
    return {"content": {media: content}}
