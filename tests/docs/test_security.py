"""docs/security.md names tests: each is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
POLICY = (ROOT / "SECURITY.md").read_text()


def functions(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, kinds)}


@pytest.mark.parametrize(("page", "least"), [(PAGE, 30), (POLICY, 10)], ids=["page", "policy"])
def test_every_test_that_is_named_exists(page: str, least: int) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > least
    assert [(file, name) for file, name in named if name not in functions(ROOT / file)] == []


def test_every_threat_of_the_table_has_a_promise_and_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| S\d+ \|", line)]
    assert len(rows) > 18
    for row in rows:
        _, threat, promise, tests = [cell.strip() for cell in row.strip("|").split("|")]
        assert threat
        assert promise
        assert "::" in tests, row


def test_every_promise_of_the_policy_has_a_test_and_the_policy_leads_to_the_page() -> None:
    rows = [line for line in POLICY.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 8
    assert [row for row in rows if "::" not in row] == []
    assert "docs/security.md" in POLICY
