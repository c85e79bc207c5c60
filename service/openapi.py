"""The published schema, from the same structs that decode the requests."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
from fastapi import FastAPI

from plaudit import wire
from service import links
from service.routes import METRICS, OWN, PROBES, Route, Routes

BODIES = {
    "/score": (wire.ScoreRequest, wire.ScoreResponse),
    "/ensemble_score": (wire.EnsembleRequest, wire.EnsembleResponse),
    "/models": (None, wire.ModelList),
}
TAGS = {
    "native": "Plaudit's own routes: docs/serving.md.",
    "compatible": "The wire formats of other servers, as their clients speak them: docs/compat.md.",
    "health": "Probes and metrics, without a key: docs/operations.md.",
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
    """The schema with our own bodies and answers, and the bodies that other servers' routes ask;
    ``routes`` are theirs."""
    asks = {route.path: kinds_of(route) for route in routes if route.asks}
    own = [kind for pair in BODIES.values() for kind in pair if kind is not None]
    types = list(dict.fromkeys([*own, wire.Problem, *chain(*asks.values())]))
    found, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    refs = dict(zip(types, found, strict=True))
    schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{}, {"key": []}]  # none is needed where the server has no keys
    a_problem = body(refs[wire.Problem], media="application/problem+json")
    for path, (request, response) in BODIES.items():
        for operation in schema["paths"][path].values():
            if request is not None:
                operation["requestBody"] = body(refs[request], example=EXAMPLE)
            operation["responses"] = {
                "200": {"description": "answered"} | body(refs[response]),
                "default": {"description": "a problem"} | a_problem,
            }
    links.add(schema["paths"], a_problem)
    for path, kinds in asks.items():
        of_any = {"anyOf": [refs[kind] for kind in kinds]}
        schema["paths"][path]["post"]["requestBody"] = body(
            of_any if len(kinds) > 1 else refs[kinds[0]]
        )
    schema["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    declared = Routes([*OWN, *routes])
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            present(operation, declared.of(path))
    return schema


def present(operation: dict[str, Any], route: Route) -> None:
    """Under its tag, in the words of its docstring, and without a key where it asks for none."""
    quiet = route in (*PROBES, METRICS)
    operation["tags"] = ["health" if quiet else "compatible" if route.of_a_peer else "native"]
    first, _, more = operation.pop("description").partition("\n\n")
    operation["summary"] = " ".join(first.split()).removesuffix(".")
    if more:
        operation["description"] = more
    if route.use == "open":
        operation["security"] = []


def kinds_of(route: Route) -> tuple[type, ...]:
    return route.asks if isinstance(route.asks, tuple) else (route.asks,)


def body(ref: Any, media: str = "application/json", example: Any = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": ref}
    if example is not None:
        content["example"] = example
    return {"content": {media: content}}
