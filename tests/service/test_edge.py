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
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right"}):
            for method, path in (("POST", "/score"), ("GET", "/models"), ("GET", "/nothing")):
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


METRICS = {
    "plaudit_admission_rejections_total", "plaudit_batch_fill_ratio", "plaudit_batch_items",
    "plaudit_batch_tokens", "plaudit_build_info", "plaudit_cache_breaker_state",
    "plaudit_cache_lookups_total", "plaudit_cache_op_duration_seconds",
    "plaudit_compat_filled_total",
    "plaudit_deadline_expired_total", "plaudit_ensemble_degraded_total", "plaudit_ensemble_std",
    "plaudit_errors_total",
    "plaudit_http_request_duration_seconds", "plaudit_http_requests_total", "plaudit_model_info",
    "plaudit_nonfinite_total", "plaudit_padding_waste_ratio", "plaudit_queue_items",
    "plaudit_queue_oldest_age_seconds", "plaudit_queue_tokens", "plaudit_score",
    "plaudit_singleflight_joined_total", "plaudit_stage_duration_seconds", "plaudit_tokens_total",
    "plaudit_truncated_total",
}  # fmt: skip


async def test_metric_names_are_the_contract(metrics):
    found = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
        if family.name.startswith("plaudit_")
    }
    assert found == METRICS


async def test_a_score_leaves_its_traces_in_metrics(serve, tiny_checkpoint, metrics):
    async with serve(models=[tiny_checkpoint]) as client:
        await client.post("/score", json={"items": [{"token_ids": [5, 6, 7]}]})
        await client.post("/score", json={"items": 5})
    value = metrics.registry.get_sample_value
    labels = {"route": "/score", "method": "POST", "code": "200"}
    assert value("plaudit_http_requests_total", labels) == 1
    assert value("plaudit_errors_total", {"route": "/score", "type": "malformed"}) == 1
    assert value("plaudit_tokens_total", {"kind": "computed"}) == 3
    assert value("plaudit_batch_items_count") == 1
    for stage in ("decode", "tokenize", "cache_get", "queue", "compute", "cache_set", "encode"):
        assert value("plaudit_stage_duration_seconds_count", {"stage": stage}) >= 1
    assert value("plaudit_queue_tokens") == value("plaudit_queue_items") == 0


async def test_hostile_paths_do_not_grow_the_metrics(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        for path in ("/coffee", "/metrics"):
            await client.get(path)
            await client.request("BREW", path)
        before = len((await client.get("/metrics")).text.splitlines())
        for i in range(300):
            await client.request("BREW" if i % 2 else "GET", f"/coffee/{i}")
        after = len((await client.get("/metrics")).text.splitlines())
    assert after == before


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
