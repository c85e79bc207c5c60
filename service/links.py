"""How a client goes on from an answer, for the published schema: which model, which revision.

Links of OpenAPI: "the value here is the one to send there". Tools that test by a schema follow
them, and so reach what random names and revisions never would.
"""

from typing import Any

SCORE, ENSEMBLE_SCORE, MODELS = "/score", "/ensemble_score", "/models"
ITEMS = [{"token_ids": [1]}]


def add(paths: dict[str, Any], problem: dict[str, Any]) -> None:
    """Give our routes their links; ``problem`` is the body of a refusal."""
    score, ensemble = operation_of(paths, SCORE), operation_of(paths, ENSEMBLE_SCORE)
    paths[MODELS]["get"]["responses"]["200"]["links"] = {
        "score": link(score, "Score with the first that is listed", model="models/0/name"),
        "scorePinned": link(
            score, "The same, refused with 409 where it is another revision by then",
            model="models/0/name", revision="models/0/revision",
        ),
    }  # fmt: skip
    for path, operation, name in ((SCORE, score, "model"), (ENSEMBLE_SCORE, ensemble, "ensemble")):
        responses = paths[path]["post"]["responses"]
        responses["200"]["links"] = {
            "pin": link(
                operation, "Score with the same revision, or not at all",
                **{name: name, "revision": "revision"},
            )
        }  # fmt: skip
        responses["409"] = {"description": "the model has another revision"} | problem
        responses["409"]["links"] = {
            "repin": link(operation, "Score with what is loaded now", revision="revision")
        }


def operation_of(paths: dict[str, Any], path: str) -> str:
    found: str = paths[path]["post"]["operationId"]
    return found


def link(operation: str, description: str, **fields: str) -> dict[str, Any]:
    """To an operation whose body takes ``fields`` from places of this answer's body."""
    sent = {name: f"$response.body#/{place}" for name, place in fields.items()}
    return {
        "operationId": operation,
        "description": description,
        "requestBody": {"items": ITEMS} | sent,
    }
