"""S12, S13 and S23: a key opens what its scopes name, and nothing else, however it is asked."""

from base64 import b64encode
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from asgi_caller import DISGUISES, HOSTS, METHODS, Caller, declared
from fastapi import FastAPI
from starlette.routing import Match
from starlette.routing import Route as Served

from service.compat import peers
from service.routes import ACTS, ADMIN, OWN, UNKNOWN, Routes

KEYS = """
trainer:scores       scope=score
prometheus:looks     scope=metrics
operator:administers scope=admin
former:once          scope=score scope=metrics scope=admin expires=2020-01-01
"""
NONE = {"": "", "wrong": "Bearer wrong", "former": "Bearer once", "digest": "Digest scores"}
# Written down here, so that a route that changes hands does so in a test too.
METRICS = {"/metrics", "/ops", "/ops/models"}
ADMINISTRATIVE = {"/admin/swap", "/admin/swaps", "/admin/models"}
# Of these, what only tells.
TELLING = {"/admin/swaps", "/admin/models"}
OPEN_ON_ADMIN = {"/livez", "/readyz", "/"}
OPEN_ON_MAIN = {
    "/livez", "/readyz", "/openapi.json", "/docs", "/",
    "/v2", "/v2/health/live", "/v2/health/ready", "/health",
}  # fmt: skip


def grant_of(path: str, is_open: set[str]) -> str | None:
    if path in is_open or path.startswith("/ui/"):
        return None
    if path in METRICS:
        return "looks"
    return "administers" if path in ADMINISTRATIVE else "scores"


def basic(password: str) -> str:
    return "Basic " + b64encode(f"user:{password}".encode()).decode()


@pytest.fixture
def settings(tmp_path: Path, tiny_checkpoint: Path) -> dict[str, Any]:
    (tmp_path / "keys").write_text(KEYS)
    (tmp_path / "root").mkdir()
    return {"models": [tiny_checkpoint], "api_keys_file": tmp_path / "keys"}


@pytest.fixture
def off_loopback(settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    both = {"admin_port": 9000, "admin_host": "0.0.0.0", "model_root": tmp_path / "root"}
    return settings | both


async def of_every_route(app: FastAPI, is_open: set[str]) -> int:
    """Every route × method × key gets what is said above; how many were asked."""
    ask, asked = Caller(app), 0
    for (path, methods), method in product(declared(app).items(), METHODS):
        needed = grant_of(path, is_open)
        keys = [f"Bearer {key}" for key in ("scores", "looks", "administers")]
        for sent in (*NONE.values(), *keys):
            status, _ = await ask(method, path, authorization=sent)
            let_in = needed is None or sent == f"Bearer {needed}"
            refused = 403 if sent in keys else 401
            if let_in:
                assert (status == 405) == (method not in methods), (path, method, sent, status)
                assert status not in (401, 403), (path, method, sent)
            else:
                assert status == refused, (path, method, sent, status)
            asked += 1
    return asked


async def test_every_route_and_method_of_the_main_port_asks_for_its_scope(
    build: Callable[..., Any], settings: dict[str, Any]
) -> None:
    async with build(**settings) as app:
        assert await of_every_route(app, OPEN_ON_MAIN) > 1500


async def test_every_route_and_method_of_the_admin_port_asks_for_its_scope(
    build_both: Callable[..., Any], off_loopback: dict[str, Any]
) -> None:
    async with build_both(**off_loopback) as (_, admin):
        assert {*ADMINISTRATIVE, *METRICS} <= declared(admin).keys()
        assert await of_every_route(admin, OPEN_ON_ADMIN) > 300


@pytest.mark.parametrize("open_metrics", [False, True])
@pytest.mark.parametrize("key", ["looks", "administers"])
async def test_no_host_and_no_writing_of_a_path_lets_a_key_do_more(
    build_both: Callable[..., Any], off_loopback: dict[str, Any], key: str, open_metrics: bool
) -> None:
    async with build_both(**off_loopback, open_metrics=open_metrics) as both:
        for app, is_open in zip(both, (OPEN_ON_MAIN, OPEN_ON_ADMIN), strict=True):
            ask = Caller(app)
            for path in declared(app):
                if grant_of(path, is_open) in (None, key) or (open_metrics and path in METRICS):
                    continue
                for host in HOSTS:
                    status, _ = await ask("POST", path, host, authorization=f"Bearer {key}")
                    assert status == 403, (path, host)
                for disguise, method in product(DISGUISES, ("GET", "POST")):
                    status, body = await ask(
                        method, disguise.format(path), authorization=f"Bearer {key}"
                    )
                    # Or it is written as no route at all, or as an open one, and is that.
                    assert status in (401, 403, 404, 405, 307) or b"alive" in body, (path, disguise)
                    assert b"revision" not in body
                    assert b"plaudit_" not in body


@pytest.mark.parametrize("settings_of_it", [{}, {"admin_host": "127.0.0.1"}])
async def test_open_metrics_open_nothing_else_however_it_is_written(
    build_both: Callable[..., Any], off_loopback: dict[str, Any], settings_of_it: dict[str, Any]
) -> None:
    """As in the manifests of Kubernetes and of Compose, and as on a machine of one's own."""
    settings = off_loopback | {"open_metrics": True} | settings_of_it
    async with build_both(**settings) as both:
        for app, is_open in zip(both, (OPEN_ON_MAIN, OPEN_ON_ADMIN), strict=True):
            ask = Caller(app)
            for path in declared(app):
                if grant_of(path, is_open) is None or path in METRICS:
                    continue
                for disguise, method in product(("{0}", *DISGUISES), METHODS):
                    status, body = await ask(method, disguise.format(path))
                    closed = (401,) if disguise == "{0}" else (401, 404, 405, 307)
                    assert status in closed or b"alive" in body, (method, path, disguise)
                    assert b"revision" not in body


async def test_with_an_admin_port_open_metrics_open_no_path_of_the_main_port(
    build_both: Callable[..., Any], off_loopback: dict[str, Any]
) -> None:
    async with build_both(**off_loopback, open_metrics=True) as (app, _):
        for path in ("/metrics", "/ops", "/nothing", "/score/", "/score%0A", "/admin/swap"):
            assert (await Caller(app)("GET", path))[0] == 401, path


def routed(app: FastAPI, scope: dict[str, Any]) -> str | None:
    """The path of the route that Starlette would take."""
    for route in app.routes:
        if route.matches(scope)[0] is not Match.NONE:
            assert isinstance(route, Served)
            return route.path
    return None


async def test_what_is_routed_is_the_route_that_was_checked_or_nothing(
    build_both: Callable[..., Any], off_loopback: dict[str, Any]
) -> None:
    """There are two matchers: ours, by which callers are let in, and Starlette's."""
    async with build_both(**off_loopback) as (app, admin):
        differ = set()
        for one, routes in ((app, [*OWN, *peers.ROUTES]), (admin, [*ADMIN, *ACTS])):
            ours, ask = Routes(routes), Caller(one)
            written = {form.format(path) for path in declared(one) for form in DISGUISES}
            written |= {path.upper() for path in declared(one)}
            for path in map(unquote, written):
                found = routed(one, {"type": "http", "method": "GET", "path": path})
                checked = ours.of(path)
                if checked is not UNKNOWN:
                    assert found in (None, checked.path) or checked.path == "/ui/{file}", path
                elif found is not None:
                    differ.add(path)
                    for key in ("scores", "looks", "administers"):
                        status, _ = await ask("GET", quote(path), authorization=f"Bearer {key}")
                        assert status == 404, path
        assert {"/score\n", "/admin/swaps\n"} <= differ  # or this test has become idle


async def test_a_slash_too_many_leads_to_the_declared_route_and_nowhere_else(
    build_both: Callable[..., Any], off_loopback: dict[str, Any]
) -> None:
    async with build_both(**off_loopback) as (app, _):
        for path, to in (("/score/", "/score"), ("/score//?a=b", "/score?a=b"),
                         ("/v2/models/m%20m/infer/", "/v2/models/m%20m/infer")):  # fmt: skip
            status, headers, _ = await Caller(app).whole(
                "POST", path, "evil.example", authorization="Bearer scores"
            )
            assert (status, headers["location"]) == (307, to)
        for path in ("/nothing/", "//evil.example/", "/score%0A/", "/score/%0A", "//"):
            assert (await Caller(app)("POST", path, authorization="Bearer scores"))[0] == 404


async def test_every_route_is_declared_with_who_may_use_it(
    build_both: Callable[..., Any], off_loopback: dict[str, Any]
) -> None:
    """One that is not would be open to the key of anybody."""
    async with build_both(**off_loopback) as (app, admin):
        for one, routes in ((app, [*OWN, *peers.ROUTES]), (admin, [*ADMIN, *ACTS])):
            for path in declared(one):
                assert Routes(routes).of(path).use != "unknown", path


async def test_what_changes_something_is_never_a_get_and_takes_no_key_that_a_browser_adds(
    build_both: Callable[..., Any], off_loopback: dict[str, Any]
) -> None:
    async with build_both(**off_loopback) as (_, admin):
        ask = Caller(admin)
        for path in TELLING:
            assert declared(admin)[path] == {"GET"}
            assert (await ask("GET", path, authorization=basic("administers")))[0] == 401
            assert (await ask("GET", path, authorization="Bearer administers"))[0] == 200
        for path in ADMINISTRATIVE - TELLING:
            assert declared(admin)[path] == {"POST", "DELETE"}
            assert (await ask("POST", path, authorization=basic("administers")))[0] == 401
            assert (await ask("POST", path, authorization="Bearer administers"))[0] == 422


async def test_a_browser_is_asked_for_the_key_of_the_page_of_operations(
    build_both: Callable[..., Any], off_loopback: dict[str, Any]
) -> None:
    async with build_both(**off_loopback) as (app, admin):
        status, headers, _ = await Caller(admin).whole("GET", "/ops")
        assert (status, "Basic" in headers["www-authenticate"]) == (401, True)
        assert (await Caller(admin)("GET", "/ops", authorization=basic("looks")))[0] == 200
        status, headers, _ = await Caller(app).whole("POST", "/score")
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="plaudit"')


@pytest.mark.parametrize("changes", [{"admin_host": "127.0.0.1"}, {"open_metrics": True}])
async def test_on_loopback_or_where_the_network_guards_it_metrics_need_no_key_and_swaps_do(
    build_both: Callable[..., Any], off_loopback: dict[str, Any], changes: dict[str, Any]
) -> None:
    async with build_both(**off_loopback | changes) as (_, admin):
        ask = Caller(admin)
        for path in METRICS:
            assert (await ask("GET", path))[0] == 200
        assert (await ask("POST", "/admin/swap"))[0] == 401


async def test_a_key_that_does_not_score_leaves_loopback_open(
    build: Callable[..., Any], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("prometheus:looks scope=metrics\n")
    async with build(models=[tiny_checkpoint], api_keys_file=tmp_path / "keys") as app:
        for path in ("/models", "/metrics"):
            assert (await Caller(app)("GET", path))[0] == 200
