"""A real browser before a real service: pages are watched for what they ask and complain of."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)
from served_process import ServedProcess

from plaudit import checkpoint
from training.service_process import free_port

CHROMIUM = shutil.which("chromium")
KEY = "a-key-of-the-tests"
HOSTILE = "<img src=x onerror=alert(1)>"
# What Chromium says of an answer over 399, and of none, which tests provoke.
REFUSED = "Failed to load resource: "
expect.set_options(timeout=60_000)


@dataclass
class Watched:
    """What a page asked for, and what it complained of."""

    origins: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("request", lambda request: self.origins.add(origin(request.url)))
        page.on("console", self.hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(REFUSED):
            self.complaints.append(message.text)


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a module: Playwright's loop must not run beside those of other tests."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=180_000
        )
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """``open_page(url, color_scheme="dark")``: a page of a fresh browser profile. At the end of
    the test it must have asked nobody but its server, and have complained of nothing."""
    opened: list[tuple[str, Watched, BrowserContext]] = []

    def open_one(url: str, **options: Any) -> Page:
        permissions = ["clipboard-read", "clipboard-write"]
        context = browser.new_context(permissions=permissions, **options)
        context.set_default_timeout(120_000)
        page, watched = context.new_page(), Watched()
        watched.watch(page)
        opened.append((origin(url), watched, context))
        page.goto(url)
        return page

    yield open_one
    for own, watched, context in opened:
        context.close()
        assert watched.origins == {own}
        assert watched.complaints == []


@pytest.fixture
def violations() -> Callable[..., list[str]]:
    """``violations(page, "label")``: what axe finds in the light and in the dark scheme, but for
    the rules named: scheme, rule and elements. Without motion, so that no colour is on its way."""

    def find(page: Page, *excused: str) -> list[str]:
        return [
            f"{scheme}, {one['id']}: {[node['html'][:120] for node in one['nodes']][:5]}"
            for scheme in ("light", "dark")
            for one in found(page, scheme)
            if one["id"] not in excused
        ]

    def found(page: Page, scheme: Literal["light", "dark"]) -> list[dict[str, Any]]:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        violations: list[dict[str, Any]] = Axe().run(page).response["violations"]
        return violations

    return find


@pytest.fixture(scope="session")
def models_file(tmp_path_factory: pytest.TempPathFactory, members: list[Path]) -> Path:
    """Three members, an ensemble of them, one that may lose its short member, a bundle, and a
    model with a name that is markup."""
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(members[2], root / "short")
    manifest, _ = checkpoint.read(members[2])
    checkpoint.write(root / "short", msgspec.structs.replace(manifest, probes=(), max_tokens=150))
    names = {f"m{place}": str(member) for place, member in enumerate(members)}
    config = {
        "models": {**names, "short": "short", HOSTILE: str(members[0])},
        "ensembles": {
            "careful": {"members": ["m0", "m1", "m2"], "aggregate": "uwo", "coefficient": 0.5},
            "leaky": {"members": ["m0", "m1", "short"], "min_members": 2},
        },
        "bundles": {
            "balanced": {
                "objectives": {
                    "helpful": {"member": "m0", "weight": 1},
                    "harmless": {"member": "m1", "weight": 0.5},
                }
            }
        },
    }
    (root / "models.yaml").write_text(yaml.safe_dump(config))
    return root / "models.yaml"


@pytest.fixture(scope="session")
def servers(models_file: Path) -> Iterator[dict[str, str]]:
    """URLs of two processes over the same models: "open" has an admin port, "keyed" wants a key."""
    config, port = ["--config", str(models_file)], free_port()
    processes = {
        "open": ServedProcess([], *config, "--admin-port", str(port)),
        "keyed": ServedProcess([], *config, "--api-keys", KEY),
    }
    urls = {name: process.wait() for name, process in processes.items()}
    yield urls | {"admin": f"http://127.0.0.1:{port}"}
    for process in processes.values():
        process.kill()


@pytest.fixture(scope="session")
def url(servers: dict[str, str]) -> str:
    return servers["open"]


@pytest.fixture(scope="session")
def keyed_url(servers: dict[str, str]) -> str:
    return servers["keyed"]


@pytest.fixture(scope="session")
def admin_url(servers: dict[str, str]) -> str:
    return servers["admin"]
