"""What an expression reads, from its syntax tree; and the dashboards as they are committed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed")

MONITORING = Path(__file__).parents[2] / "service" / "monitoring"
BOARDS = {path.stem: json.loads(path.read_text()) for path in MONITORING.glob("dashboards/*.json")}
RULES = [
    rule
    for path in sorted(MONITORING.glob("rules/*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"]: rule for rule in RULES if "record" in rule}


@dataclass(frozen=True)
class Selector:
    metric: str
    matchers: frozenset[tuple[str, str, str]]
    inside: tuple[str, ...]  # the functions around it, the outermost first
    over_range: bool


def parsed(expr: str) -> Any:
    """The tree of an expression; ValueError for what is no PromQL."""
    return promql.parse(expr.replace("$__rate_interval", "1m"))


def selectors(node: Any, inside: tuple[str, ...] = (), over_range: bool = False) -> Iterator[Any]:
    if isinstance(node, promql.VectorSelector):
        found = frozenset((m.name, str(m.op), m.value) for m in node.matchers.matchers)
        yield Selector(node.name, found, inside, over_range)
        return
    if isinstance(node, promql.Call):
        inside = (*inside, node.func.name)
    over_range = over_range or isinstance(node, promql.MatrixSelector)
    for name in ("lhs", "rhs", "expr", "param", "args", "vector_selector"):
        below = getattr(node, name, None)
        for child in below if isinstance(below, list) else [below]:
            if child is not None and not isinstance(child, str | float):
                yield from selectors(child, inside, over_range)


def reads(expr: str) -> list[Selector]:
    return list(selectors(parsed(expr)))


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that show something: rows are headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def annotations(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in board["annotations"].get("list", []) if "expr" in one]


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each panel's and annotation's name with each of its expressions."""
    for panel in panels(board):
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((one["name"], one["expr"]) for one in annotations(board))


def variables(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in board["templating"]["list"]}
