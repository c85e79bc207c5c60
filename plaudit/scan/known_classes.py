"""The model types and classes that the installed Transformers has itself.

Its tables are read as text: importing them takes seconds and torch.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

TABLES = ("auto_mappings.py", "configuration_auto.py", "modeling_auto.py")


@cache
def known_names() -> frozenset[str]:
    """Model types such as ``llama`` and classes such as ``LlamaForSequenceClassification``."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'transformers'", name="transformers")
    folder = Path(spec.origin).parent / "models" / "auto"
    paths = [folder / name for name in TABLES if (folder / name).is_file()]
    return frozenset(name for path in paths for name in names_in(ast.parse(path.read_text())))


def names_in(module: ast.Module) -> Iterator[str]:
    """Strings of the tables ``…_MAPPING_NAMES``."""
    for statement in module.body:
        if isinstance(statement, ast.Assign) and is_table(statement.targets[0]):
            for node in ast.walk(statement.value):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def is_table(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id.endswith("MAPPING_NAMES")
