"""What a Grafana dashboard's JSON asks for: panels with their places, queries and units."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Grafana's grid: columns of a row, and the height of one unit in its pixels.
COLUMNS = 24


class DashboardError(ValueError):
    """A file that is no dashboard, or asks for what is not known; the text says what mends it."""


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and how its series are named (``{{label}}`` is a label's value)."""

    expression: str
    legend: str
    heatmap: bool = False

    def name(self, labels: Mapping[str, str]) -> str:
        if not self.legend or self.legend == "__auto":
            return ", ".join(f"{k}={v}" for k, v in sorted(labels.items()) if k != "__name__")
        found = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: labels.get(m[1], ""), self.legend)
        return " ".join(found.split())


@dataclass(frozen=True)
class Step:
    """From this value on, this colour; None: from below."""

    value: float | None
    color: str


@dataclass(frozen=True)
class Panel:
    """A panel at columns ``x`` to ``x + width`` of the grid, from ``y`` down."""

    title: str
    kind: str
    x: int
    y: int
    width: int
    height: int
    unit: str
    minimum: float | None
    queries: tuple[Query, ...]
    steps: tuple[Step, ...]
    lines: bool
    stacked: bool


@dataclass(frozen=True)
class Dashboard:
    title: str
    description: str
    panels: tuple[Panel, ...]


def read(path: Path, variables: Mapping[str, str], rate_interval: str) -> Dashboard:
    """A dashboard whose variables are replaced by regular expressions: those given, ``.*`` for the
    others. DashboardError where there is none, or a variable is given that it does not have."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DashboardError(f"{path}: {error.strerror}; name a dashboard's JSON file") from None
    except ValueError as error:
        raise DashboardError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("panels"), list):
        raise DashboardError(f"{path}: no list of panels: name a dashboard that Grafana exported")
    known = {one["name"] for one in found.get("templating", {}).get("list", [])}
    strange = sorted(variables.keys() - known)
    if strange:
        raise DashboardError(f"{path}: no variable {strange[0]!r}; it has {sorted(known)}")
    values = dict.fromkeys(known, ".*") | dict(variables) | {"__rate_interval": rate_interval}
    return Dashboard(
        found.get("title", path.stem),
        found.get("description", ""),
        tuple(panel(one, values) for one in flat(found["panels"])),
    )


def flat(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Panels, those inside collapsed rows too, behind their row."""
    return [one for panel in panels for one in (panel, *panel.get("panels", []))]


def panel(found: Mapping[str, Any], values: Mapping[str, str]) -> Panel:
    place, defaults = found["gridPos"], found.get("fieldConfig", {}).get("defaults", {})
    custom = defaults.get("custom", {})
    return Panel(
        title=found.get("title", ""),
        kind=found["type"],
        x=place["x"],
        y=place["y"],
        width=place["w"],
        height=place["h"],
        unit=defaults.get("unit", "short"),
        minimum=defaults.get("min"),
        queries=tuple(query(one, values) for one in found.get("targets", []) if not hidden(one)),
        steps=tuple(
            Step(one["value"], one["color"])
            for one in defaults.get("thresholds", {}).get("steps", [])
        ),
        lines=custom.get("thresholdsStyle", {}).get("mode", "off") != "off",
        stacked=custom.get("stacking", {}).get("mode", "none") != "none",
    )


def hidden(target: Mapping[str, Any]) -> bool:
    return bool(target.get("hide"))


def query(target: Mapping[str, Any], values: Mapping[str, str]) -> Query:
    return Query(
        substituted(target["expr"], values),
        target.get("legendFormat", ""),
        target.get("format") == "heatmap",
    )


def substituted(expression: str, values: Mapping[str, str]) -> str:
    """``$name``, ``${name}``, ``${name:format}`` replaced; DashboardError for what is unknown."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in values:
            raise DashboardError(f"unknown variable ${name} in {expression!r}")
        return values[name]

    return re.sub(r"\$(?:(\w+)|\{(\w+)(?::\w+)?\})", value, expression)
