"""S23: what answers tell a browser; no page of another origin reads one or sends anything."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from asgi_caller import METHODS, Caller, declared

WANTED = {
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin", "x-frame-options": "DENY",
}  # fmt: skip


@pytest.fixture
def settings(tiny_checkpoint: Path, tmp_path: Path) -> dict[str, Any]:
    """All routes of both ports."""
    (tmp_path / "root").mkdir()
    return {
        "models": [tiny_checkpoint], "admin_port": 9000, "admin_keys": "operator",
        "model_root": tmp_path / "root",
    }  # fmt: skip


async def test_every_answer_of_every_route_has_the_headers_and_lets_no_other_origin_read(
    build_both: Callable[..., Any], settings: dict[str, Any]
) -> None:
    preflight = {
        "origin": "https://evil.example", "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }  # fmt: skip
    async with build_both(**settings, api_keys="right") as both:
        for app, key in product(both, ("", "Bearer right", "Bearer operator")):
            ask = Caller(app)
            for path, method in product([*declared(app), "/nothing"], METHODS):
                sent = preflight | {"authorization": key}
                _, headers, _ = await ask.whole(method, path, **sent)
                assert headers.items() >= WANTED.items(), (method, path)
                policy = headers["content-security-policy"]
                assert policy.startswith("default-src 'none'")
                assert "frame-ancestors 'none'" in policy
                assert not [name for name in headers if name.startswith("access-control-")]


async def test_scores_errors_and_metrics_are_kept_by_no_browser_and_no_proxy(
    build_both: Callable[..., Any], settings: dict[str, Any]
) -> None:
    async with build_both(**settings) as (app, admin):
        asked = [(app, "POST", "/score"), (app, "GET", "/models"), (app, "GET", "/nothing"),
                 (admin, "GET", "/metrics"), (admin, "GET", "/ops/models")]  # fmt: skip
        for one, method, path in asked:
            _, headers, _ = await Caller(one).whole(method, path)
            assert headers["cache-control"] == "no-store", path


async def test_no_preflight_is_answered_so_no_page_elsewhere_sends_json_or_a_key(
    build_both: Callable[..., Any], settings: dict[str, Any]
) -> None:
    async with build_both(**settings) as both:
        for app in both:
            for path in declared(app):
                asked = {"origin": "https://evil.example", "authorization": "Bearer operator"}
                assert (await Caller(app)("OPTIONS", path, **asked))[0] == 405, path
            assert (app is both[0]) or "/admin/swap" in declared(app)
