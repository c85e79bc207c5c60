"""Who administrated what: a line for each act and each refusal, and keys replaced in service."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs plaudit[otel]")

from prometheus_client import Counter
from spawned import wait_for
from watched_server import WatchedServer, watched

from service.audit import REFUSED_PER_MINUTE, Audit
from service.metrics import Metrics

KEYS = "trainer:scores scope=score\noperator:administers scope=admin\n"
OPERATOR = {"Authorization": "Bearer administers"}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, members: list[Path]
) -> Iterator[WatchedServer]:
    directory = tmp_path_factory.mktemp("audited")
    with watched(directory, members[:1], KEYS) as found:
        shutil.copytree(members[1], found.root / "new")
        yield found


def written(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def swap(server: WatchedServer, headers: dict[str, str], checkpoint: str) -> httpx2.Response:
    body = {"model": "m0", "checkpoint": checkpoint}
    return httpx2.post(f"{server.ops}/admin/swap", json=body, headers=headers, timeout=120)


def models(server: WatchedServer, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.get(f"{server.url}/models", headers=headers).status_code


def reload(server: WatchedServer, keys: str) -> dict[str, Any]:
    """The audit line of a SIGHUP after the file was replaced."""
    before = len(written(server.audit)) if server.audit.exists() else 0
    server.keys.write_text(keys)
    server.signal(signal.SIGHUP)
    wait_for("the reload", lambda: len(written(server.audit)) > before)
    return written(server.audit)[-1]


def test_each_act_and_each_refusal_is_a_line_in_the_log_and_in_the_file(
    server: WatchedServer,
) -> None:
    before = len(written(server.audit)) if server.audit.exists() else 0
    asked = [
        ({}, "new", 401), ({"Authorization": "Bearer scores"}, "new", 403),
        (OPERATOR, "none", 404), (OPERATOR | {"X-Request-Id": "run-7"}, "new", 200),
    ]  # fmt: skip
    for headers, checkpoint, status in asked:
        assert swap(server, headers, checkpoint).status_code == status
    lines = written(server.audit)[before:]
    said = [(one["who"], one["outcome"], one.get("kind"), one.get("checkpoint")) for one in lines]
    assert said == [
        (None, "refused", "unauthenticated", None),
        (None, "refused", "forbidden", None),
        ("operator", "accepted", None, "none"),
        ("operator", "unknown-checkpoint", None, "none"),
        ("operator", "accepted", None, "new"),
        ("operator", "done", None, "new"),
    ]
    for one in lines:
        assert one["event"] == "POST /admin/swap"
        assert one["from"] == "127.0.0.1"
        assert one["instance"]
        assert one["time"].endswith("Z")
    assert [one["instance"] for one in lines[-2:]] == ["run-7", "run-7"]
    assert lines[-1]["status"] == 200
    log = [json.loads(row) for row in server.log.read_text().splitlines() if row.startswith("{")]
    assert [one for one in log if one.get("logger") == "plaudit.audit"][-len(lines) :] == lines
    assert server.audit.stat().st_mode & 0o777 == 0o600


def test_one_key_takes_the_place_of_another_without_a_restart(server: WatchedServer) -> None:
    """Both live for a while; every call in between is answered."""
    assert (models(server, "scores"), models(server, "newer")) == (200, 401)
    line = reload(server, KEYS + "trainer:newer scope=score\n")
    assert (line["event"], line["outcome"], line["keys"]) == ("reload keys", "done", 3)
    assert (models(server, "scores"), models(server, "newer")) == (200, 200)
    reload(server, KEYS.replace(":scores", ":newer") + "evaluation:other scope=score\n")
    assert (models(server, "scores"), models(server, "newer")) == (401, 200)
    line = reload(server, KEYS)
    assert (line["added"], line["removed"]) == ([], ["evaluation"])
    assert (models(server, "scores"), models(server, "newer")) == (200, 401)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("trainer:newer scope=root\n", "line 1: scope= is one of"),
        ("", "has no key"),
        ("trainer:newer scope=score\n", "lets models be swapped and no key for it"),
        ("operator:newer scope=admin\n", "no key with scope=score would be left"),
    ],
)
def test_a_file_that_cannot_be_taken_changes_nothing_and_is_logged(
    server: WatchedServer, keys: str, said: str
) -> None:
    reload(server, KEYS)
    line = reload(server, keys)
    assert (line["event"], line["outcome"]) == ("reload keys", "refused")
    assert (models(server, "scores"), models(server, "newer")) == (200, 401)
    errors = [row for row in server.log.read_text().splitlines() if '"error"' in row]
    assert "the keys are as they were" in errors[-1]
    assert said in errors[-1]


def counter() -> Counter:
    return Metrics().saturation.audit_failures


def failures(counted: Counter) -> float:
    return next(iter(counted.collect())).samples[0].value


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_stops_nobody_and_is_counted(tmp_path: Path) -> None:
    counted = counter()
    for file in (Path("/dev/full"), tmp_path, tmp_path / "none" / "audit"):
        Audit(file, counted).record("POST /admin/swap", "done", who="operator")
    assert failures(counted) == 3


def test_a_file_that_is_moved_away_is_begun_anew_and_is_only_appended_to(tmp_path: Path) -> None:
    file, counted = tmp_path / "audit", counter()
    audit = Audit(file, counted)
    for number in range(3):
        audit.record("one", "done", who="operator", number=number)
    os.rename(file, tmp_path / "audit.1")
    audit.record("two", "done", who="operator")
    assert [one["number"] for one in written(tmp_path / "audit.1")] == [0, 1, 2]
    assert [one["event"] for one in written(file)] == ["two"]
    assert failures(counted) == 0


def test_a_storm_of_refusals_is_counted_and_does_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("service.audit.time.monotonic", lambda: now)
    audit = Audit(tmp_path / "audit", counter())
    for _ in range(10_000):
        audit.refused("POST /admin/swap", who="")
    now += 61.0
    audit.refused("POST /admin/swap", who="")
    audit.refused("POST /admin/swap", who="")
    lines = written(tmp_path / "audit")
    assert len(lines) == REFUSED_PER_MINUTE + 2
    assert [one.get("left_out") for one in lines[-2:]] == [10_000 - REFUSED_PER_MINUTE, None]


@pytest.mark.parametrize("text", ["a b", "x" * 200, 'a"b', "a\nb", "\u2028", ""])
def test_what_is_no_harmless_name_is_left_out(tmp_path: Path, text: str) -> None:
    Audit(tmp_path / "audit", counter()).record("swap", "done", who="operator", model=text)
    (line,) = written(tmp_path / "audit")
    assert "model" not in line
