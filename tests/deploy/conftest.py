"""What the deployment tests share: where things are, and which settings and tools there are."""

import ast
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Finds a validator of the dev extra, beside the interpreter that runs the tests."""

    def find(name: str) -> str:
        path = Path(sys.executable).parent / name
        if not path.exists():
            pytest.skip(f"{name} is not installed: pip install 'plaudit[dev]'")
        return str(path)

    return find


@pytest.fixture(scope="session")
def settings() -> set[str]:
    """The environment variables of service.settings.Settings, read without importing the service.

    A variable with our prefix that is no setting would be ignored, or refused at start.
    """
    tree = ast.parse((ROOT / "service" / "settings.py").read_text())
    (found,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Settings"]
    fields = [n.target for n in found.body if isinstance(n, ast.AnnAssign)]
    return {f"PLAUDIT_{f.id.upper()}" for f in fields if isinstance(f, ast.Name)}
