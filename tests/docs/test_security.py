"""docs/security.md names tests: each is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def functions(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, kinds)}


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 30
    assert [(file, name) for file, name in named if name not in functions(ROOT / file)] == []


def test_every_threat_of_the_table_has_a_promise_and_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| S\d+ \|", line)]
    assert len(rows) > 18
    for row in rows:
        _, threat, promise, tests = [cell.strip() for cell in row.strip("|").split("|")]
        assert threat
        assert promise
        assert "::" in tests, row


def test_the_policy_leads_to_the_page() -> None:
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text()
