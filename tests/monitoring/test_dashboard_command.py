"""``plaudit dashboard write``, from the installed package."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from promql_reader import BOARDS, MONITORING

from plaudit.cli import main

Tool = Callable[..., Any]


def test_it_writes_all_that_an_operator_mounts(tmp_path: Path) -> None:
    assert main(["dashboard", "write", str(tmp_path / "new")]) == 0
    written = {p.relative_to(tmp_path / "new") for p in (tmp_path / "new").rglob("*.*")}
    data = {
        path.relative_to(MONITORING)
        for ending in ("json", "yml", "yaml")
        for path in MONITORING.rglob(f"*.{ending}")
    }
    assert written == data
    for path in written:
        assert (tmp_path / "new" / path).read_bytes() == (MONITORING / path).read_bytes()


def test_prometheus_finds_the_rules_where_they_were_written(tool: Tool, tmp_path: Path) -> None:
    assert main(["dashboard", "write", str(tmp_path)]) == 0
    done = tool("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stderr
    rules = sorted((MONITORING / "rules").glob("*.yml"))
    assert f"{len(rules)} rule files found" in done.stdout
    for path in rules:
        assert f"Checking {tmp_path}/rules/{path.name}" in done.stdout


def test_it_writes_nothing_over_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "prometheus.yml"
    mine.write_text("mine")
    assert main(["dashboard", "write", str(tmp_path)]) == 2
    assert "prometheus.yml would be written over" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["prometheus.yml"]
    assert mine.read_text() == "mine"
    assert main(["dashboard", "write", str(tmp_path), "--force"]) == 0
    assert mine.read_text() == (MONITORING / "prometheus.yml").read_text()


def test_what_runs_needs_no_development_package() -> None:
    program = (
        "import sys; sys.modules['grafana_foundation_sdk'] = None\n"
        "from service.monitoring.command import shipped\n"
        "print(sum(name.suffix == '.json' for name, _ in shipped()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=MONITORING.parents[1]
    )
    assert done.stdout.strip() == str(len(BOARDS)), done.stderr
