"""Draws a dashboard's panels with Matplotlib, in the places and units that Grafana gives them."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from service.monitoring.dashboard_file import COLUMNS, Dashboard, Panel, Query, Step
from service.monitoring.prometheus_api import Series

Found = list[tuple[Query, list[Series]]]

COLUMN_INCHES, UNIT_INCHES = 0.62, 0.36
COLORS = {"green": "#299c46", "orange": "#ed8128", "yellow": "#e0b400", "red": "#d44a3a"}
MAX_LEGEND, MAX_NAME = 8, 22
LEGEND_SHARE = 0.3
# Seconds from tick to tick.
APART = [10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400]
MAX_TICKS = 6
SHORT_SECONDS = 600
SUFFIXES = {"cps": "/s", "reqps": " req/s", "watt": " W", "s": " s"}


def draw(dashboard: Dashboard, found: Sequence[Found]) -> Figure:
    """One figure of all panels; ``found`` has the series of each."""
    bottom = max((panel.y + panel.height for panel in dashboard.panels), default=1)
    figure = Figure(figsize=(COLUMNS * COLUMN_INCHES, bottom * UNIT_INCHES))
    for panel, series in zip(dashboard.panels, found, strict=True):
        draw_panel(figure, panel, series, bottom)
    return figure


def draw_panel(figure: Figure, panel: Panel, found: Found, bottom: int) -> None:
    axes = figure.add_axes(place(panel, bottom))
    if panel.kind == "row":
        axes.set_axis_off()
        axes.text(0, 0.5, panel.title, weight="bold", size=10, va="center")
        return
    axes.set_title(panel.title, size=8, loc="left", weight="bold")
    axes.tick_params(labelsize=6)
    drawing = {"timeseries": draw_lines, "stat": draw_number, "heatmap": draw_heatmap}
    if panel.kind not in drawing:
        say(axes, f"a {panel.kind} panel is not drawn")
    elif not has_data(found):
        say(axes, "no data")
    else:
        drawing[panel.kind](axes, panel, found)


def place(panel: Panel, bottom: int) -> tuple[float, float, float, float]:
    """Left, bottom, width and height within the figure, with room for title and ticks."""
    left, right, below, above = (
        (0.1, 0.1, 0.1, 0.1) if panel.kind == "row" else (1.1, 0.2, 0.7, 0.9)
    )
    return (
        (panel.x + left) / COLUMNS,
        1 - (panel.y + panel.height - below) / bottom,
        (panel.width - left - right) / COLUMNS,
        (panel.height - below - above) / bottom,
    )


def has_data(found: Found) -> bool:
    return any(math.isfinite(value) for _, some in found for one in some for value in one.values)


def say(axes: Axes, text: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, ha="center", va="center", color="gray", transform=axes.transAxes)


def draw_lines(axes: Axes, panel: Panel, found: Found) -> None:
    named = [
        ((query.name(one.labels) or panel.title)[:MAX_NAME], one)
        for query, some in found
        for one in some
    ]
    if panel.stacked:
        stack(axes, named)
    else:
        for name, one in named:
            axes.plot(one.times, one.values, label=name, linewidth=1)
    axes.set_ylim(bottom=panel.minimum)
    for step in panel.steps if panel.lines else ():
        if step.value is not None:
            axes.axhline(step.value, color=COLORS.get(step.color, "gray"), ls="--", linewidth=0.8)
    label(axes, panel.unit)
    axes.grid(alpha=0.3)
    if len(named) <= MAX_LEGEND:
        beside(axes)


def beside(axes: Axes) -> None:
    """The legend right of the lines, which make room for it."""
    left, bottom, width, height = axes.get_position().bounds
    axes.set_position((left, bottom, width * (1 - LEGEND_SHARE), height))
    axes.legend(
        fontsize=5, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, frameon=False
    )


def stack(axes: Axes, named: Sequence[tuple[str, Series]]) -> None:
    """One upon another; what is missing or no number is nothing."""
    times = sorted({at for _, one in named for at in one.times})
    rows = []
    for _, one in named:
        known = dict(zip(one.times, one.values, strict=True))
        rows.append([finite(known.get(at, 0.0)) for at in times])
    axes.stackplot(times, rows, labels=[name for name, _ in named], alpha=0.8)


def finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def draw_number(axes: Axes, panel: Panel, found: Found) -> None:
    """The last value of each series, in the colour of its threshold, and what it was before."""
    lasts = [(query.name(one.labels), last(one), one) for query, some in found for one in some]
    lasts = [one for one in lasts if math.isfinite(one[1])]
    axes.set_axis_off()
    for place_, (name, value, one) in enumerate(lasts[:4]):
        at = (place_ + 0.5) / min(len(lasts), 4)
        color = color_of(value, panel.steps)
        axes.text(at, 0.62, text_of(value, panel.unit), size=14, color=color, ha="center",
                  va="center", transform=axes.transAxes)  # fmt: skip
        axes.text(at, 0.3, name, size=6, ha="center", transform=axes.transAxes)
        if len(lasts) == 1:
            under = axes.inset_axes((0.0, 0.0, 1.0, 0.3))
            under.plot(one.times, one.values, color=color, linewidth=1)
            under.set_axis_off()


def last(one: Series) -> float:
    return next((value for value in reversed(one.values) if math.isfinite(value)), math.nan)


def color_of(value: float, steps: Sequence[Step]) -> str:
    reached = [step for step in steps if step.value is None or value >= step.value]
    return COLORS.get(reached[-1].color, "black") if reached else "black"


def draw_heatmap(axes: Axes, panel: Panel, found: Found) -> None:
    """Buckets of a histogram: what lies in each, not below its edge."""
    buckets = sorted(
        (float(one.labels["le"]), one) for _, some in found for one in some if "le" in one.labels
    )
    if not buckets:
        say(axes, "no buckets")
        return
    times = sorted({at for _, one in buckets for at in one.times})
    rows = [[dict(zip(one.times, one.values, strict=True)).get(at, 0.0) for at in times]
            for _, one in buckets]  # fmt: skip
    inside = np.diff(np.nan_to_num(np.array(rows)), axis=0, prepend=0.0).clip(min=0)
    shown = np.flatnonzero(inside.any(axis=1))
    rows_shown = slice(int(shown.min()), int(shown.max()) + 1) if len(shown) else slice(None)
    edges = [edge for edge, _ in buckets][rows_shown]
    axes.imshow(inside[rows_shown], aspect="auto", origin="lower", cmap="Oranges",
                interpolation="nearest", extent=(0, len(times), 0, len(edges)))  # fmt: skip
    axes.set_yticks(np.arange(len(edges)) + 1, [text_of(edge, panel.unit) for edge in edges])
    ticks = np.linspace(0, len(times) - 1, 4).astype(int)
    axes.set_xticks(ticks + 0.5, [clock(times[i], times[-1] - times[0]) for i in ticks])


def clock(at: float, over: float) -> str:
    """Of a range of ``over`` seconds: with seconds where minutes would repeat. A locator's round
    time may lack a millionth of a second."""
    look = "%H:%M:%S" if over < SHORT_SECONDS else "%H:%M"
    return f"{datetime.fromtimestamp(round(at), UTC):{look}}"


def label(axes: Axes, unit: str) -> None:
    """Values in their unit; the clock, in UTC, at round times."""
    axes.margins(x=0)
    first, end = axes.get_xlim()
    apart = next((one for one in APART if (end - first) / one <= MAX_TICKS), APART[-1])
    axes.xaxis.set_major_locator(MultipleLocator(apart))
    axes.xaxis.set_major_formatter(lambda at, _: clock(at, end - first))
    axes.yaxis.set_major_formatter(lambda value, _: text_of(value, unit))


def text_of(value: float, unit: str) -> str:
    """A number in a unit of Grafana's, in three digits: 1.2 GiB, 35 ms, 12 %."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    match unit:
        case "percentunit":
            return f"{fixed(value * 100)} %"
        case "s" if 0 < abs(value) < 1:
            return f"{value * 1e3:.3g} ms" if abs(value) >= 1e-3 else f"{value * 1e6:.3g} µs"
        case "bytes":
            return scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"])
        case _:
            return scaled(value, 1000, ["", "K", "M", "G"]) + SUFFIXES.get(unit, "")


def fixed(value: float) -> str:
    """In three digits where it has fewer, and never as a power of ten."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def scaled(value: float, base: int, names: Sequence[str]) -> str:
    place_ = 0
    while abs(value) >= base and place_ < len(names) - 1:
        value, place_ = value / base, place_ + 1
    return f"{value:.3g} {names[place_]}".strip()
