"""Keys, logs, metrics and the published schema."""

import json
import logging
import re

import jsonschema
import pytest

from service.logs import JsonFormatter

CANARY = "zebra-canary-7261"


async def test_every_route_but_the_open_ones_needs_the_key(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint], api_keys="right,other") as client:
        for path in ("/livez", "/readyz"):
            assert (await client.get(path)).status_code == 200
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right"}):
            for method, path in (
                ("POST", "/score"), ("GET", "/models"), ("GET", "/metrics"), ("GET", "/nothing"),
            ):  # fmt: skip
                response = await client.request(method, path, headers=header)
                assert response.status_code == 401
                assert response.json()["type"].endswith("#unauthenticated")
        for key in ("right", "other"):
            headers = {"Authorization": f"Bearer {key}"}
            response = await client.post("/score", json={"items": []}, headers=headers)
            assert response.status_code == 200


async def test_no_text_reaches_logs_metrics_or_errors(serve, tiny_checkpoint, caplog):
    bodies = [
        {"items": [{"prompt": CANARY, "response": CANARY}]},
        {"items": [{"prompt": CANARY, "response": ""}]},
        {"items": [{"text": CANARY * 100}]},
        {"items": [{"prompt": {"role": CANARY}, "response": CANARY}]},
        {"items": [{"prompt": CANARY, "response": 5}]},
        [CANARY],
        {"items": [{CANARY: CANARY}]},
        {"items": [{"prompt": [{"role": CANARY, "content": "x"}], "response": "y"}]},
        {"items": [], "truncation": CANARY},
    ]
    formatter = JsonFormatter()
    with caplog.at_level(logging.DEBUG):
        async with serve(models=[tiny_checkpoint]) as client:
            for body in bodies:
                assert CANARY not in (await client.post("/score", json=body)).text
            assert CANARY not in (await client.get("/metrics")).text
    ours = [r for r in caplog.records if r.name == "plaudit"]
    assert len(ours) == len(bodies)
    for record in caplog.records:
        if not record.name.startswith(("httpx2", "httpcore2")):
            assert CANARY not in json.dumps(json.loads(formatter.format(record)))


async def test_a_hostile_request_id_is_replaced(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        kept = await client.get("/livez", headers={"X-Request-Id": "run-7"})
        replaced = await client.get("/livez", headers={"X-Request-Id": 'a" onload="x'})
    assert kept.headers["x-request-id"] == "run-7"
    assert re.fullmatch("[0-9a-f]{32}", replaced.headers["x-request-id"])


async def test_the_published_schema_describes_real_bodies(serve, leaky_file):
    items = [{"prompt": "a", "response": text} for text in ("b", "", "c" * 140)]
    async with serve(models=[leaky_file]) as client:
        schema = (await client.get("/openapi.json")).json()
        answer = (await client.post("/ensemble_score", json={"items": items})).json()
        models = (await client.get("/models")).json()
        problem = (await client.post("/score", json={"items": 5})).json()
    for name, body in (
        ("EnsembleRequest", {"items": items}),
        ("EnsembleResponse", answer),
        ("ModelList", models),
        ("Problem", problem),
    ):
        jsonschema.validate(body, {**schema, "$ref": f"#/components/schemas/{name}"})
    assert answer["items"][2]["degraded"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            {name: value for name, value in answer.items() if name != "degraded"},
            {**schema, "$ref": "#/components/schemas/EnsembleResponse"},
        )
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"colour": 1}, {**schema, "$ref": "#/components/schemas/ScoreRequest"})
