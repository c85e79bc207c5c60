"""``plaudit dashboard preview``: what a dashboard would show, drawn from a Prometheus.

No Grafana is needed: the panels' own queries are asked, with every variable at "All" unless
``--variable`` says more. Each dashboard becomes a page that needs nothing else, and a PNG.
"""

import argparse
import base64
import html
import io
import re
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from service.duration import DurationError, seconds_of
from service.monitoring import dashboard_file
from service.monitoring.dashboard_file import Dashboard
from service.monitoring.prometheus_api import Prometheus, Range

if TYPE_CHECKING:
    from service.monitoring.panel_drawing import Found

SHIPPED = Path(__file__).parent / "dashboards"
POINTS = 240
DPI = 80
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: sans-serif; margin: 2em auto; max-width: 1200px }}
img {{ width: 100% }} table {{ border-collapse: collapse }} td {{ padding: .2em 1em .2em 0 }}
code {{ font-size: .8em }}</style>
<h1>{title}</h1><p>{description}</p><p>{when}</p>
<img alt="The panels of {title}" src="data:image/svg+xml;base64,{picture}">
<details><summary>What was asked</summary><table>{rows}</table></details></html>
"""


class PreviewError(ValueError):
    """What keeps a preview from being drawn; the text says what mends it."""


def add_preview(subcommands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The parser of ``preview``, whose ``run`` takes the arguments and gives an exit status."""
    text = "draw dashboards from a Prometheus, without Grafana"
    made = subcommands.add_parser("preview", allow_abbrev=False, help=text, description=__doc__)
    made.add_argument("dashboards", type=Path, nargs="*", help="JSON files; without any, our own")
    made.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    made.add_argument("--last", default="1h", help="how far back: 90s, 15m, 6h, 2d")
    made.add_argument("--out", type=Path, default=Path("preview"), help="folder to write to")
    made.add_argument("--variable", action="append", default=[], metavar="NAME=REGEX")
    made.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    needs_matplotlib()
    paths = options.dashboards or sorted(SHIPPED.glob("*.json"))
    over = range_of(options.last, time.time())
    variables = dict(map(variable, options.variable))
    options.out.mkdir(parents=True, exist_ok=True)
    with Prometheus(options.prometheus) as prometheus:
        for name, wanted in variables.items():
            meets_some(name, wanted, prometheus.label_values(name, over))
        for path in paths:
            dashboard = dashboard_file.read(path, variables, over.rate_interval)
            found = asked(dashboard, prometheus, over)
            write(dashboard, found, over, options.out / path.stem)
    return 0


def needs_matplotlib() -> None:
    """The service does without Matplotlib."""
    try:
        import_module("matplotlib")
    except ModuleNotFoundError:
        raise PreviewError("needs matplotlib: pip install 'plaudit[training]'") from None


def range_of(last: str, now: float) -> Range:
    try:
        seconds = seconds_of(last)
    except DurationError as error:
        raise PreviewError(f"--last {error}") from None
    return Range(now - seconds, now, max(1.0, seconds / POINTS))


def variable(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals:
        raise PreviewError(f"--variable {given}: write NAME=REGEX, as in model=warm")
    return name, value


def meets_some(name: str, wanted: str, there: Sequence[str]) -> None:
    """PreviewError where a variable, which is named as its label is, lets no value through. A label
    that nothing has is left to the dashboard, which says "no data"."""
    try:
        found = [one for one in there if re.fullmatch(wanted, one)]
    except re.error as error:
        raise PreviewError(f"--variable {name}={wanted}: no regular expression: {error}") from None
    if there and not found:
        raise PreviewError(
            f"--variable {name}={wanted}: no such {name} in that time; there is {', '.join(there)}"
        )


def asked(dashboard: Dashboard, prometheus: Prometheus, over: Range) -> "list[Found]":
    """The series of each panel."""
    return [
        [(query, prometheus.range(query.expression, over)) for query in panel.queries]
        for panel in dashboard.panels
    ]


def write(dashboard: Dashboard, found: "Sequence[Found]", over: Range, stem: Path) -> None:
    """``stem``.png and ``stem``.html, and say where they are and what is empty."""
    from service.monitoring.panel_drawing import draw, has_data

    figure = draw(dashboard, found)
    picture = io.BytesIO()
    figure.savefig(picture, format="svg")
    page = PAGE.format_map(words(dashboard, over) | {
        "picture": base64.b64encode(picture.getvalue()).decode(),
        "rows": "".join(rows(dashboard, found)),
    })  # fmt: skip
    stem.with_suffix(".html").write_text(page, encoding="utf-8")
    figure.savefig(stem.with_suffix(".png"), dpi=DPI)
    asking = [(panel, some) for panel, some in zip(dashboard.panels, found, strict=True) if some]
    empty = [panel.title for panel, some in asking if not has_data(some)]
    said = f"; no data: {', '.join(empty)}" if empty else ""
    print(f"{stem}.html, {stem.name}.png: {len(asking) - len(empty)} of {len(asking)} panels{said}")


def words(dashboard: Dashboard, over: Range) -> dict[str, str]:
    first, last = (time.strftime("%F %T", time.gmtime(at)) for at in (over.start, over.end))
    return {
        "title": html.escape(dashboard.title),
        "description": html.escape(dashboard.description),
        "when": f"{first} to {last} UTC, a point every {over.step:g} seconds",
    }


def rows(dashboard: Dashboard, found: "Sequence[Found]") -> list[str]:
    return [
        f"<tr><td>{html.escape(panel.title)}<td>{len(series)} series"
        f"<td><code>{html.escape(query.expression)}</code></tr>"
        for panel, some in zip(dashboard.panels, found, strict=True)
        for query, series in some
    ]
