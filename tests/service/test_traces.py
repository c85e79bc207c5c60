"""Traces as a collector gets them: whose part a request is, what it waited for, and no text."""

import asyncio
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs plaudit[otel]")

from otlp_collector import Collector, collecting

from service import traces
from service.metrics import Metrics
from service.serve import traces_of
from service.settings import Settings, SettingsError

CANARY = "zebra-canary-7261"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


@pytest.fixture
def metrics(collector, monkeypatch) -> Metrics:
    """What ``serve`` is built with: traces go to the collector, and are all there once the
    application has stopped."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "5")  # seconds to be patient at the end
    return Metrics(traces.to(collector.url))


def attributes(span) -> dict[str, object]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes
    }


async def test_a_request_is_a_part_of_its_callers_trace_and_its_stages_are_its_parts(
    serve, tiny_checkpoint, collector
):
    body = {"items": [{"token_ids": [5, 6, 7]}, {"token_ids": [8]}, {"token_ids": []}]}
    async with serve(models=[tiny_checkpoint]) as client:
        await client.post("/score", json=body, headers=TRACEPARENT | {"tracestate": f"a={CANARY}"})
    [request] = collector.named("POST /score")
    assert request.trace_id.hex() == TRACE
    assert not any(span.trace_state for span in collector.spans)
    assert request.parent_span_id.hex() == PARENT
    assert attributes(request) == {
        "http.route": "/score", "http.request.method": "POST", "http.response.status_code": 200,
        "plaudit.items": 3, "plaudit.tokens": 4, "plaudit.cached": 0, "plaudit.failed": 1,
    }  # fmt: skip
    parts = [span for span in collector.spans if span.parent_span_id == request.span_id]
    names = {span.name for span in parts}
    assert names == {
        "decode", "cache_get", "tokenize", "admit", "queue", "compute", "cache_set", "encode",
    }  # fmt: skip
    [queue], [compute] = collector.named("queue"), collector.named("compute")
    assert request.start_time_unix_nano <= queue.start_time_unix_nano
    # The same moment, but for what the wall clock was set by between two looks at it.
    assert abs(queue.end_time_unix_nano - compute.start_time_unix_nano) < 1e8
    assert compute.end_time_unix_nano <= request.end_time_unix_nano
    assert attributes(compute) == {"plaudit.sequences": 2}


async def test_requests_at_one_time_keep_their_spans_apart(serve, tiny_checkpoint, collector):
    callers = [f"{i:032x}" for i in range(1, 9)]
    async with serve(models=[tiny_checkpoint]) as client:
        await asyncio.gather(
            *(
                client.post(
                    "/score",
                    json={"items": [{"token_ids": [5, i]}]},
                    headers={"traceparent": f"00-{caller}-{PARENT}-01"},
                )
                for i, caller in enumerate(callers)
            )
        )
    for name in ("POST /score", "tokenize", "queue", "compute"):
        assert sorted(span.trace_id.hex() for span in collector.named(name)) == callers


async def test_a_request_without_a_trace_begins_one(serve, tiny_checkpoint, collector):
    async with serve(models=[tiny_checkpoint]) as client:
        for headers in ({}, {"traceparent": "no such thing"}):
            await client.post("/score", json={"items": []}, headers=headers)
        for quiet in ("/livez", "/readyz", "/metrics"):
            await client.get(quiet)
    first, second = collector.named("POST /score")
    assert first.trace_id != second.trace_id
    assert not first.parent_span_id
    assert not second.parent_span_id
    assert not [span.name for span in collector.spans if span.name.startswith("GET")]


async def test_no_text_is_in_what_a_collector_gets(serve, tiny_checkpoint, collector):
    bodies = [
        {"items": [{"prompt": CANARY, "response": CANARY}]},
        {"items": [{"prompt": CANARY, "response": ""}]},
        {"items": [{"text": CANARY * 100}]},
        {"items": [{"prompt": {"role": CANARY}, "response": CANARY}]},
        {"items": [{CANARY: CANARY}]},
        {"model": CANARY, "items": []},
        {"items": [], "truncation": CANARY},
    ]
    async with serve(models=[tiny_checkpoint], api_keys=CANARY) as client:
        for key in (CANARY, f"{CANARY}-not"):
            for body in bodies:
                headers = {"Authorization": f"Bearer {key}", "X-Request-Id": CANARY}
                await client.post("/score", json=body, headers=headers)
        await client.get(f"/{CANARY}?{CANARY}={CANARY}")
        await client.post(f"/k/{CANARY}/get_reward", json={"query": [CANARY]})
    assert len(collector.named("POST /score")) == 2 * len(bodies)
    assert collector.named("POST /get_reward")
    for body in collector.bodies:
        assert CANARY.encode() not in body
    statuses = {attributes(span).get("http.response.status_code") for span in collector.spans}
    assert statuses == {200, 401, 404, 422, None}


async def test_only_failures_of_the_server_are_errors(serve, tiny_checkpoint, collector):
    async with serve(models=[tiny_checkpoint]) as client:
        await client.post("/score", json={"items": 5})
        await client.post(
            "/score", json={"items": [{"token_ids": [5] * 500}] * 1},
            headers={"X-Request-Deadline-Ms": "1"},
        )  # fmt: skip
    found = [(attributes(s), s.status.code) for s in collector.named("POST /score")]
    codes = {said["http.response.status_code"]: code for said, code in found}
    assert codes == {422: 0, 504: 2}


async def test_a_collector_that_is_gone_costs_no_request(serve, tiny_checkpoint, collector):
    collector.shutdown()
    collector.server_close()
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post("/score", json={"items": [{"token_ids": [5]}]})
    assert answer.status_code == 200


def settings(**changes) -> Settings:
    return Settings(models=["."], _cli_parse_args=False, **changes)


def test_the_standard_variable_will_do_and_ours_comes_first(monkeypatch, collector):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert traces_of(settings()) is traces.OFF
    with collecting() as other:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", other.url)
        for found in (traces_of(settings()), traces_of(settings(otlp_endpoint=collector.url))):
            with found.request("POST /score", {}):
                pass
            found.close()
        assert (len(other.spans), len(collector.spans)) == (1, 1)
    [resource] = [resource for r in collector.requests for resource in r.resource_spans]
    assert attributes(resource.resource)["service.name"] == "plaudit"


@pytest.fixture
def without_otel(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)


def test_without_the_packages_our_setting_is_refused(without_otel):
    with pytest.raises(SettingsError, match=r"plaudit\[otel\]"):
        traces_of(settings(otlp_endpoint="http://127.0.0.1:4318"))


def test_without_them_everybodys_variable_is_left_alone(without_otel, monkeypatch, capsys):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert traces_of(settings()) is traces.OFF
    assert "plaudit[otel]" in capsys.readouterr().err
