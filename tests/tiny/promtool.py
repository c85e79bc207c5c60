"""Prometheus' own tool, of Debian's package: an oracle for what is computed as Prometheus does."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

Done = subprocess.CompletedProcess[str]


def promtool(*arguments: object, given: str | None = None) -> Done:
    """What it said, of ``given`` on its standard input. Skips where it is not installed."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True)


def evaluate(directory: Path, series: list[dict[str, str]], tests: list[dict[str, Any]]) -> Done:
    """Its unit test of expressions: ``series`` and ``tests`` as in a file of rule tests."""
    file = directory / "expressions.yaml"
    entry = {"interval": "1m", "input_series": series, "promql_expr_test": tests}
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [entry]}))
    return promtool("test", "rules", file)
