"""Who administrated what: a line for each act and each refusal, and keys replaced in service."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs plaudit[otel]")

from asgi_caller import Caller
from spawned import wait_for
from watched_server import WatchedServer, watched

from service.audit import REFUSED_PER_MINUTE, Audit, By
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


def checkpoint_of(line: dict[str, Any]) -> str | None:
    return line["swaps"][0]["checkpoint"] if "swaps" in line else None


def models(server: WatchedServer, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.get(f"{server.url}/models", headers=headers, timeout=120).status_code


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
    cancelled = httpx2.delete(f"{server.ops}/admin/swap", headers=OPERATOR, timeout=120)
    assert cancelled.status_code == 404
    # The last answer is sent before its line is written.
    wait_for("every line", lambda: len(written(server.audit)) >= before + 12)
    lines = written(server.audit)[before:]
    said = [(one["event"], one["who"], one["outcome"], checkpoint_of(one)) for one in lines]
    post, delete = "POST /admin/swap", "DELETE /admin/swap"
    assert said == [
        (post, None, "refused", None),
        (post, "trainer", "refused", None),
        (post, "operator", "accepted", None),
        ("swap-asked", "operator", "accepted", "none"),
        ("swap", "operator", "refused", "none"),
        (post, "operator", "unknown-checkpoint", None),
        (post, "operator", "accepted", None),
        ("swap-asked", "operator", "accepted", "new"),
        ("swap", "operator", "switched", "new"),
        (post, "operator", "done", None),
        (delete, "operator", "accepted", None),
        (delete, "operator", "no-swap", None),
    ]
    assert [one["kind"] for one in lines[:2]] == ["unauthenticated", "forbidden"]
    for one in lines:
        assert one["from"] == "127.0.0.1"
        assert one["time"].endswith("Z")
    assert len({one["instance"] for one in lines}) == 5  # what belongs together is joined by it
    assert {one["instance"] for one in lines[6:10]} == {"run-7"}
    assert {one["instance"] for one in lines[2:6]} == {lines[2]["instance"]}
    assert lines[9]["status"] == 200
    log = [json.loads(row) for row in server.log.read_text().splitlines() if row.startswith("{")]
    assert [one for one in log if one.get("logger") == "plaudit.audit"][-len(lines) :] == lines
    assert server.audit.stat().st_mode & 0o777 == 0o600


def test_whoever_is_not_let_in_is_in_the_audit_log_on_any_path_of_the_admin_port(
    server: WatchedServer,
) -> None:
    before = len(written(server.audit)) if server.audit.exists() else 0
    for path in ("/admin/models", "/admin/nothing", "/admin/swaps%0A", "/metrics"):
        for key in ("scores", "wrong"):
            httpx2.get(f"{server.ops}{path}", headers={"Authorization": f"Bearer {key}"})
    said = [(one["event"], one["who"], one.get("kind")) for one in written(server.audit)[before:]]
    # Metrics on loopback, and to be told that nothing is there, are everybody's.
    assert said == [
        ("GET /admin/models", "trainer", "forbidden"),
        ("GET /admin/models", None, "unauthenticated"),
    ]


async def test_a_key_that_opens_nothing_here_is_named_where_metrics_need_one(
    build_both: Callable[..., Any], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(
        "trainer:scores scope=score\nprometheus:looks scope=metrics\n"
        "former:once scope=metrics expires=2020-01-01\n"
    )
    async with build_both(
        models=[tiny_checkpoint], admin_port=9000, admin_host="0.0.0.0",
        api_keys_file=tmp_path / "keys", audit_file=tmp_path / "audit",
    ) as (_, admin):  # fmt: skip
        for path in ("/metrics", "/ops", "/admin/nothing", "/livez"):
            for key in ("scores", "once", "wrong", "looks"):
                await Caller(admin)("GET", path, authorization=f"Bearer {key}")
    said = [(one["event"], one["who"], one["kind"]) for one in written(tmp_path / "audit")]
    closed = [("trainer", "forbidden"), ("former", "unauthenticated"), (None, "unauthenticated")]
    assert said == [
        *(("GET /metrics", *one) for one in closed),
        *(("GET /ops", *one) for one in closed),
        *(("GET unknown", *one) for one in closed[1:]),
    ]


def test_one_key_takes_the_place_of_another_without_a_restart(server: WatchedServer) -> None:
    """Both live for a while; every call in between is answered."""
    assert (models(server, "scores"), models(server, "newer")) == (200, 401)
    line = reload(server, KEYS + "trainer:newer scope=score\n")
    assert (line["event"], line["outcome"], line["keys"]) == ("reload keys", "done", 3)
    assert (line["added"], line["removed"], line["changed"]) == ([], [], ["trainer"])
    assert (models(server, "scores"), models(server, "newer")) == (200, 200)
    reload(server, KEYS.replace(":scores", ":newer") + "evaluation:other scope=score\n")
    assert (models(server, "scores"), models(server, "newer")) == (401, 200)
    line = reload(server, KEYS)
    assert (line["added"], line["removed"]) == ([], ["evaluation"])
    line = reload(server, KEYS.replace("=admin", "=admin expires=2999-01-01"))
    assert (line["added"], line["removed"], line["changed"]) == ([], [], ["operator"])
    assert reload(server, KEYS)["changed"] == ["operator"]
    assert reload(server, f"# the same keys\n{KEYS}")["changed"] == []
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


def audit_of(file: Path, metrics: Metrics) -> Audit:
    counted = metrics.saturation
    return Audit(file, counted.audit_failures, counted.audit_left_out)


def failures(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("plaudit_audit_failures_total")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_stops_nobody_and_is_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    for file in (Path("/dev/full"), tmp_path, tmp_path / "none" / "audit"):
        audit_of(file, metrics).record("POST /admin/swap", "done", who="operator")
    assert failures(metrics) == 3


def test_a_pipe_that_nobody_reads_or_a_link_stops_nobody_and_is_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("pipe", "link"):
        audit_of(tmp_path / name, metrics).record("POST /admin/swap", "done", who="operator")
    assert failures(metrics) == 2
    assert not (tmp_path / "elsewhere").exists()


def test_a_line_after_one_that_was_cut_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, write = Metrics(), os.write
    audit = audit_of(tmp_path / "audit", metrics)
    with monkeypatch.context() as full:
        full.setattr("service.audit.os.write", lambda at, whole: write(at, whole[:20]))
        audit.record("one", "done", who="operator")
    for name in ("two", "three"):
        audit.record(name, "done", who="operator")
    torn, *lines = (tmp_path / "audit").read_text().splitlines()
    assert len(torn) == 20
    assert [json.loads(line)["event"] for line in lines] == ["two", "three"]
    assert failures(metrics) == 1


def test_a_file_that_is_moved_away_is_begun_anew_and_is_only_appended_to(tmp_path: Path) -> None:
    file, metrics = tmp_path / "audit", Metrics()
    audit = audit_of(file, metrics)
    for number in range(3):
        audit.record("one", "done", who="operator", number=number)
    os.rename(file, tmp_path / "audit.1")
    audit.record("two", "done", who="operator")
    assert [one["number"] for one in written(tmp_path / "audit.1")] == [0, 1, 2]
    assert [one["event"] for one in written(file)] == ["two"]
    assert failures(metrics) == 0


def test_a_storm_of_refusals_is_counted_and_hides_no_key_that_wants_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("service.audit.time.monotonic", lambda: now)
    metrics = Metrics()
    audit = audit_of(tmp_path / "audit", metrics)
    for _ in range(10_000):
        audit.refused("POST /admin/swap", "unauthenticated", who=None)
    audit.refused("POST /admin/swap", "forbidden", who="trainer")
    now += 61.0
    audit.refused("POST /admin/swap", "unauthenticated", who=None)
    kinds = [one["kind"] for one in written(tmp_path / "audit")]
    assert kinds == ["unauthenticated"] * REFUSED_PER_MINUTE + ["forbidden", "unauthenticated"]
    for kind, left_out in (("unauthenticated", 10_000 - REFUSED_PER_MINUTE), ("forbidden", None)):
        name, labels = "plaudit_audit_left_out_total", {"kind": kind}
        assert metrics.registry.get_sample_value(name, labels) == left_out


@pytest.mark.parametrize("address", ["10.1.2.3", "fe80::1%eth0", "::1"])
def test_an_address_is_in_the_line(tmp_path: Path, address: str) -> None:
    said = By("operator", address, "run-7").said()
    audit_of(tmp_path / "audit", Metrics()).record("swap", "done", **said)
    (line,) = written(tmp_path / "audit")
    assert line["from"] == address


@pytest.mark.parametrize("text", ["a b", "x" * 200, 'a"b', "a\nb", "\u2028", ""])
def test_what_is_no_harmless_name_is_left_out(tmp_path: Path, text: str) -> None:
    audit_of(tmp_path / "audit", Metrics()).record("swap", "done", who="operator", model=text)
    (line,) = written(tmp_path / "audit")
    assert "model" not in line
