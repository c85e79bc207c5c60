"""S16: what a caller writes is in no log, metric, trace, error or key or value of Redis."""

import itertools
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs plaudit[otel]")

from watched_server import WatchedServer, watched

CANARY = "zebra-canary-7261"
# Of what a caller may name; the answer to it says which name it was that is unknown.
NAME = "okapi-canary-4415"
SECRETS = ("secret-of-the-trainer", "secret-of-the-operator", "secret-of-the-cache")
KEYS = f"trainer:{SECRETS[0]}\noperator:{SECRETS[1]} scope=admin scope=metrics\n"
NUMBERS = itertools.count()


def bodies(text: str) -> list[Any]:
    """As the clients of every format write them, and as none does."""
    talk = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    pair = {"prompt": text, "response": text}
    return [
        {"items": [pair]}, {"items": [{"text": text}]}, {"items": [{"messages": talk}]},
        {"query": [text]}, {"query": [text], "prompts": [text], "labels": [text]}, pair,
        {"inputs": [{"name": "sentences", "datatype": "BYTES", "shape": [1], "data": [text]}]},
        {"input": text}, {"input": [text]}, {"text": text}, {"text": [text]}, {"inputs": text},
        {"inputs": [text]}, {"messages": talk}, {"conv": talk}, {"text_1": text, "text_2": text},
        {"query": text, "documents": [text]}, {"query": text, "texts": [text]},
        {"model": NAME, "items": [pair]}, {"items": [pair], "revision": NAME},
        {"items": [{text: text}]}, {text: text}, [text], text,
        {"items": [{"prompt": [{"role": text, "content": text}], "response": text}]},
        {"items": [{"prompt": text, "response": 5}]}, {"items": [{"text": text * 200}]},
        {"items": [pair], "truncation": text}, {"input": text, "model": NAME},
    ]  # fmt: skip


def fresh() -> str:
    """Another text each time, so that nothing is a repeat of what was answered."""
    return f"{CANARY} {next(NUMBERS)}"


def ask_all(server: WatchedServer) -> tuple[dict[str, set[int]], list[str]]:
    """Every POST route with every body: statuses by route, and what was said of failures."""
    statuses: dict[str, set[int]] = {}
    errors: list[str] = []
    headers = {"Authorization": f"Bearer {SECRETS[0]}"}
    with httpx2.Client(base_url=server.url, headers=headers, timeout=60) as client:
        paths = client.get("/openapi.json").json()["paths"]
        for path in (path for path, methods in paths.items() if "post" in methods):
            for body in bodies(fresh()):
                answer = client.post(path.replace("{model}", "m0"), json=body)
                statuses.setdefault(path, set()).add(answer.status_code)
                if not answer.is_success:
                    errors.append(answer.text)
        errors += [answer.text for answer in elsewhere(client, fresh())]
    return statuses, errors


def elsewhere(client: httpx2.Client, text: str) -> list[httpx2.Response]:
    """Texts where none belongs: paths, queries, names of headers' values, and no JSON."""
    body = {"items": []}
    return [
        client.get(f"/{text}"),
        client.post("/score", params={"q": text}, content=text),
        client.post(f"/k/{text}/get_reward", json={"query": [text]}),
        client.post(f"/v2/models/{NAME}/infer", json=body),
        client.post("/score", json=body, headers={"X-Priority": text}),
        client.post("/score", json=body, headers={"X-Request-Deadline-Ms": text}),
        client.post("/score", json=body, headers={"Authorization": f"Bearer {text}"}),
        client.post("/score", json=body, headers={"X-Request-Id": text, "User-Agent": text}),
        client.post("/score", json=body, headers={"traceparent": text, "tracestate": f"a={text}"}),
        client.request("POST", "/score", content=text, headers={"Content-Encoding": text}),
    ]


def administrate(server: WatchedServer) -> list[str]:
    headers = {"Authorization": f"Bearer {SECRETS[1]}"}
    with httpx2.Client(base_url=server.ops, headers=headers, timeout=60) as client:
        asked = [("m0", f"{NAME} a"), (f"{NAME} b", "new"), ("", ""), ("m0", f"../{NAME}")]
        answers = [
            client.post("/admin/swap", json={"model": model, "checkpoint": checkpoint})
            for model, checkpoint in asked
        ]
        answers += [client.post("/admin/swap", content=fresh()), client.get(f"/{fresh()}")]
        assert {answer.status_code for answer in answers} == {404, 422}
        return [answer.text for answer in answers]


def of_redis(server: WatchedServer) -> list[bytes]:
    client = server.redis.client()
    keys = [*client.scan_iter()]
    return [*keys, *(client.get(key) or b"" for key in keys)]


def test_nothing_that_a_caller_writes_is_kept_or_passed_on(
    tmp_path: Path, members: list[Path]
) -> None:
    with watched(tmp_path, members[:1], KEYS) as server:
        statuses, errors = ask_all(server)
        errors += administrate(server)
        scored = {path for path, seen in statuses.items() if 200 in seen}
        assert len(statuses) > 10
        assert statuses.keys() - scored == {"/ensemble_score"}  # there is no ensemble here
        metrics = httpx2.get(f"{server.ops}/metrics").text
        stored = of_redis(server)
        assert len(stored) > 20
        assert server.stop() == 0
        seen = {
            "log": server.log.read_bytes(), "audit file": server.audit.read_bytes(),
            "metrics": metrics.encode(), "traces": b"".join(server.collector.bodies),
            "errors": "\n".join(errors).encode(), "redis": b"\n".join(stored),
        }  # fmt: skip
    for where, content in seen.items():
        assert len(content) > 200, where
        for secret in (CANARY, *SECRETS, *([] if where == "errors" else [NAME])):
            assert secret.encode() not in content, (where, secret)
