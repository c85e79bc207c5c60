"""S13, S14 and S23: no route answers without a key but the open ones, however it is written."""

from collections.abc import Callable
from itertools import filterfalse
from pathlib import Path
from typing import Any

import pytest
from asgi_caller import DISGUISES, HOSTS, METHODS, Caller, declared

# Written down here, so that a route that is opened is opened in a test too.
OPEN = {
    "/livez", "/readyz", "/openapi.json", "/docs",
    "/", "/v2", "/v2/health/live", "/v2/health/ready", "/health",
}  # fmt: skip
# With --open-metrics, where there is no admin port.
OPEN_METRICS = {"/metrics"}
# Scripts, styles and signs of the pages, the same for everybody.
FILES = "/ui/"


def is_open(path: str) -> bool:
    return path in OPEN or path.startswith(FILES)


async def test_only_the_open_routes_answer_without_a_key(
    build: Callable[..., Any], tiny_checkpoint: Path
) -> None:
    async with build(models=[tiny_checkpoint], api_keys="right") as app:
        ask, routes = Caller(app), declared(app)
        assert len(routes) > 20
        for path in routes:
            for method in METHODS:
                status, _ = await ask(method, path)
                if is_open(path):
                    assert status in (200, 405, 422), (method, path)
                else:
                    assert status == 401, (method, path)


@pytest.mark.parametrize("open_metrics", [False, True])
async def test_no_host_and_no_writing_of_a_path_opens_a_route(
    build: Callable[..., Any], tiny_checkpoint: Path, open_metrics: bool
) -> None:
    settings = {"models": [tiny_checkpoint], "open_metrics": open_metrics}
    async with build(**settings, api_keys="right") as app:
        ask, routes = Caller(app), declared(app)
        opened = OPEN_METRICS if open_metrics else set()
        for path in filterfalse(is_open, routes.keys() - opened):
            for host in HOSTS:
                assert (await ask("POST", path, host))[0] == 401, (path, host)
            for disguise in DISGUISES:
                for method in ("GET", "POST"):
                    status, body = await ask(method, disguise.format(path))
                    if status != 401:  # it is written as an open route, and is that one
                        assert status in (404, 405) or body == b'{"status":"alive"}', disguise
                        assert b"revision" not in body


async def test_a_method_that_is_not_declared_is_405_and_changes_nothing(
    build: Callable[..., Any], tiny_checkpoint: Path
) -> None:
    async with build(models=[tiny_checkpoint]) as app:
        ask = Caller(app)
        for path, methods in declared(app).items():
            for method in set(METHODS) - methods:
                status, headers, _ = await ask.whole(method, path)
                assert status == 405, (method, path)
                assert headers["allow"] == ", ".join(sorted(methods)), path


async def test_every_route_of_the_application_is_declared_with_who_may_use_it(
    build: Callable[..., Any], tiny_checkpoint: Path
) -> None:
    """One that is not would need a key: the default is closed."""
    async with build(models=[tiny_checkpoint]) as app:
        assert declared(app).keys() >= OPEN
        allowed = {"GET", "HEAD", "POST", "PUT"}
        assert {m for methods in declared(app).values() for m in methods} <= allowed


@pytest.mark.parametrize("ranges", ["bytes=0-", "bytes=" + ",".join(["0-1"] * 20_000)])
async def test_ranges_are_not_served(
    serve: Callable[..., Any], tiny_checkpoint: Path, ranges: str
) -> None:
    async with serve(models=[tiny_checkpoint]) as client:
        for path in ("/livez", "/models", "/openapi.json", "/docs", "/metrics"):
            answer = await client.get(path, headers={"Range": ranges})
            assert answer.status_code == 200
            assert "content-range" not in answer.headers


async def test_a_model_is_a_name_and_never_a_place(
    serve: Callable[..., Any], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1 and S2: nothing is fetched, and nothing opened, because a request names it."""
    places = [
        "http://127.0.0.1:9/x", "https://evil.example/m.tar", "file:///etc/passwd", "s3://b/m",
        "gs://b/m", "hf://a/b", "169.254.169.254/latest", "\\\\host\\share", "../m0", "/etc/passwd",
        str(tiny_checkpoint), "m0/../m0", "m0\x00", "M0", " m0", "m0 ", "", "." , "a" * 100_000,
    ]  # fmt: skip
    async with serve(models=[tiny_checkpoint]) as client:
        touched: list[str] = []
        forbid(monkeypatch, touched)
        for place in places:
            for path, field in (("/score", "model"), ("/ensemble_score", "ensemble")):
                answer = await client.post(path, json={"items": [], field: place})
                assert answer.status_code == 404, place
                assert len(answer.text) < 1000
        assert (await client.post("/score", json={"items": [], "model": "m0"})).status_code == 200
    assert touched == []


def forbid(monkeypatch: pytest.MonkeyPatch, touched: list[str]) -> None:
    """Note what is opened or connected to from here on."""
    import builtins
    import os
    import socket

    for owner, name in ((builtins, "open"), (os, "open"), (socket, "getaddrinfo"),
                        (socket.socket, "connect")):  # fmt: skip
        monkeypatch.setattr(owner, name, lambda *given, _n=name: touched.append(f"{_n} {given}"))


def test_nothing_that_unpacks_forms_or_serves_files_is_installed_or_used() -> None:
    root = Path(__file__).parents[2]
    sources = "".join(path.read_text() for path in (root / "service").rglob("*.py"))
    assert "FileResponse" not in sources
    assert "python-multipart" not in (root / "pyproject.toml").read_text()
