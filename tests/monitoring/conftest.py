"""Where Debian's tools are; they are no part of a Python environment, so they may be absent."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Tool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tool() -> Tool:
    """``tool("promtool", "check", …)``: what it said. Skips where it is not installed."""

    def run(name: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed: apt-get install prometheus, or kubectl")
        return subprocess.run([name, *map(str, arguments)], capture_output=True, text=True)

    return run
