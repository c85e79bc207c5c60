"""Prints the table of alerts for docs/monitoring.md: python docs/alerts_table.py"""

from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[1] / "service" / "monitoring" / "rules"


def render() -> str:
    """A Markdown table with a row for each alert, in the order of the rule files."""
    rows = [["alert", "for", "who", "says"], ["---"] * 4]
    found: dict[str, list[dict[str, Any]]] = {}
    for rule in alerts():
        found.setdefault(rule["alert"], []).append(rule)
    rows += [row(name, of_name) for name, of_name in found.items()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def alerts() -> list[dict[str, Any]]:
    files = sorted(RULES.glob("*.yml"))
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def row(name: str, rules: list[dict[str, Any]]) -> list[str]:
    """One row for rules of one name, which differ in their windows."""
    (severity,) = {rule["labels"]["severity"] for rule in rules}
    windows = " or ".join(rule["labels"]["window"] for rule in rules if "window" in rule["labels"])
    lasting = windows or rules[0].get("for", "at once")
    summary = rules[0]["annotations"]["summary"]
    return [f"[{name}](runbooks/{name}.md)", lasting, severity, summary]


if __name__ == "__main__":
    print(render(), end="")
