"""What the deployment tests share: where things are, and which settings and tools there are."""

import ast
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from manifests import OVERLAYS, Manifest, render

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


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def manifests(root: Path, overlay: str) -> dict[tuple[str, str], Manifest]:
    """The rendered objects by kind and name."""
    docs = render(root / "k8s" / "overlays" / overlay)
    return {(doc["kind"], doc["metadata"]["name"]): doc for doc in docs}


@pytest.fixture(scope="module")
def deployment(manifests: dict[tuple[str, str], Manifest]) -> Manifest:
    found: Manifest = manifests["Deployment", "plaudit"]["spec"]
    return found


@pytest.fixture(scope="module")
def pods(manifests: dict[tuple[str, str], Manifest]) -> dict[str, Manifest]:
    """Every pod spec by the name of its Deployment."""
    found = manifests.items()
    return {
        name: doc["spec"]["template"]["spec"] for (kind, name), doc in found if kind == "Deployment"
    }


@pytest.fixture(scope="module")
def pod(pods: dict[str, Manifest]) -> Manifest:
    return pods["plaudit"]


@pytest.fixture(scope="module")
def container(pod: Manifest) -> Manifest:
    (found,) = pod["containers"]
    made: Manifest = found
    return made
