"""Users' tests stand on the fake server, so it has to speak as the real one does."""

import json
from typing import Any

import httpx2
import jsonschema
import msgspec
import pytest

from plaudit import wire
from plaudit.testing import FakeServer
from service import problems

ITEM = {"prompt": "Why?", "response": "Because."}
TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
GOOD = [
    {"items": []},
    {"items": [ITEM, {"messages": TURNS}, {"text": "a"}, {"token_ids": [3, 4]}]},
    {"items": [ITEM, ITEM], "truncation": "left"},
    {"groups": [{"prompt": "Why?", "responses": ["a", "b"]}]},
    {"items": [ITEM, {"prompt": "Why?", "response": "x" * 600}]},  # over the limit
]
BAD = [
    {},
    {"items": [ITEM], "groups": []},
    {"items": [{"prompt": 3}]},
    {"items": [ITEM], "odd": 1},
    {"items": [ITEM], "truncation": "middle"},
    {"items": [ITEM], "revision": "sha256:0"},
]


def rule(item: wire.Item) -> float | wire.ItemError:
    if len(item.response or "") > 512:
        return wire.ItemError("too-long", "600 tokens, the limit is 512")
    return 0.25


@pytest.fixture
def both(listen: Any, ensemble_file: Any) -> Any:
    with (
        listen(models=[ensemble_file]) as real,
        FakeServer(rule, model="m0", ensemble="ens") as fake,
        httpx2.Client() as http,
    ):
        yield lambda *call, **options: [
            http.request(call[0], url + call[1], **options) for url in (real, fake.url)
        ]


def shape(value: Any) -> Any:
    """Names and types: of a list, the different ones of what is in it."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(one), sort_keys=True) for one in value})
    return type(value).__name__


def named(route: str) -> dict[str, str]:
    return {"model": "m0"} if route == "/score" else {"ensemble": "ens"}


@pytest.mark.parametrize("route", ["/score", "/ensemble_score"])
def test_answers_have_the_fields_and_types_of_the_service(both: Any, route: str) -> None:
    kind = wire.ScoreResponse if route == "/score" else wire.EnsembleResponse
    schema = both("GET", "/openapi.json")[0].json()
    reference = {
        "$ref": f"#/components/schemas/{kind.__name__}",
        "components": schema["components"],
    }
    for body in GOOD:
        real, fake = both("POST", route, json=body | named(route))
        assert (real.status_code, fake.status_code) == (200, 200)
        assert shape(fake.json()) == shape(real.json())
        assert len(fake.json()["rewards"]) == len(real.json()["rewards"])
        jsonschema.validate(fake.json(), reference)
        msgspec.json.decode(fake.content, type=kind)
        assert fake.headers["content-type"] == real.headers["content-type"]


@pytest.mark.parametrize("route", ["/score", "/ensemble_score"])
def test_what_the_service_refuses_is_refused_alike(both: Any, route: str) -> None:
    bodies = [body | named(route) for body in BAD]
    for body in [*bodies, {"items": [ITEM]} | {name: "odd" for name in named(route)}]:
        real, fake = both("POST", route, json=body)
        assert real.status_code == fake.status_code != 200, body
        assert shape(fake.json()) == shape(real.json())
        assert fake.headers["content-type"] == real.headers["content-type"]
        kinds = [answer.json()["type"].rpartition("#")[2] for answer in (real, fake)]
        assert kinds[0] == kinds[1]


def test_models_and_readiness_are_listed_alike(both: Any) -> None:
    real, fake = both("GET", "/models")
    shapes = [
        {one["kind"]: shape(one) for one in answer.json()["models"]} for answer in (real, fake)
    ]
    assert shapes[0] == shapes[1]
    real, fake = both("GET", "/readyz")
    assert real.json() == fake.json()
    assert [answer.status_code for answer in both("GET", "/nowhere")] == [404, 404]


@pytest.mark.parametrize(("kind", "status"), [("overloaded", 503), ("deadline", 504)])
def test_its_refusals_are_problems_of_the_service(kind: str, status: int) -> None:
    real = problems.problem(problems.Failure(kind, "as it is", 5), "id-1")
    with FakeServer() as fake, httpx2.Client() as http:
        fake.refuse(status=status)
        busy = http.post(fake.url + "/score", json={"items": [ITEM]})
    assert shape(busy.json()) == shape(msgspec.to_builtins(real))
    assert (busy.status_code, busy.json()["retryable"]) == (real.status, real.retryable)
    assert busy.json()["type"].rpartition("#")[2] == real.type.rpartition("#")[2]
    assert int(busy.headers["retry-after"]) >= 1
