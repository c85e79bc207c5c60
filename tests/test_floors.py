"""The three floors, read from the source: who imports whom, and what nobody may use."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOOR = {"plaudit": 0, "service": 1, "training": 1}
DRAWERS = {"utils", "util", "common", "core", "managers", "helpers", "misc"}
UNPICKLERS = {"pickle", "cPickle", "cloudpickle", "marshal", "shelve", "dill", "joblib"}
FORBIDDEN_CALLS = {
    "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec",
}  # fmt: skip
FILES = sorted(path for package in FLOOR for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: what stands under ``if TYPE_CHECKING`` does not."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield from statements(child)


def tree(path: Path) -> ast.AST:
    return ast.parse(path.read_text(), filename=str(path))


def imported(path: Path, nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Names of modules that ``path`` imports, inside functions too."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


def package(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", MODULES)
def test_imports_only_point_down(name):
    own = package(name)
    for other in map(package, imported(MODULES[name], ast.walk(tree(MODULES[name])))):
        if other in FLOOR and other != own:
            assert FLOOR[other] < FLOOR[own], f"{name} must not import {other}"


def test_no_module_imports_itself_through_others():
    graph = {
        name: {o for o in imported(path, statements(tree(path))) if o in MODULES and o != name}
        for name, path in MODULES.items()
    }
    assert sum(map(len, graph.values())) > 50
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("statement", ["import plaudit", "from plaudit import RewardClient"])
def test_the_client_loads_nothing_heavy(statement):
    program = (
        f"{statement}\nimport sys\n"
        "print({'torch', 'transformers', 'fastapi', 'numpy', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


def test_no_file_is_a_drawer():
    names = {part for path in FILES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not names & DRAWERS


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_unpickled_or_evaluated(name):
    nodes = list(ast.walk(tree(MODULES[name])))
    assert not {package(other) for other in imported(MODULES[name], iter(nodes))} & UNPICKLERS
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    assert not {ast.unparse(call.func) for call in calls} & FORBIDDEN_CALLS
    for keyword in (keyword for call in calls for keyword in call.keywords):
        if keyword.arg in ("trust_remote_code", "allow_pickle"):
            assert ast.unparse(keyword.value) == "False"
