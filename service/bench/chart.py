"""Latency over rate as SVG: p50 and p99 on a logarithmic scale, the limit and the knee."""

import math
from collections.abc import Callable, Sequence

from service.bench.report import Report
from service.bench.summary import RateResult

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
LINES = {"p50": "#0072b2", "p99": "#d55e00"}  # told apart without colour vision too

Scale = Callable[[float], float]


def draw(report: Report) -> str:
    """The whole ``<svg>``; rates without a latency are left out."""
    results = sorted((r for r in report.rates if r.latency_ms), key=lambda one: one.offered)
    if not results:
        return ""
    values = [report.slo_ms, *(v for r in results for v in latencies(r).values())]
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    x = linear(0, 1.05 * results[-1].offered)
    y = logarithmic(decades[0], max(decades[-1], decades[0] + 1))
    parts = [
        *axis_y(decades, y), *axis_x(results, x), *slo(report.slo_ms, y), *knee(report, x),
        *(part for name in LINES for part in line(name, results, x, y)),
    ]  # fmt: skip
    label = "Latency over offered rate: p50 and p99 in milliseconds, logarithmic"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{label}" font-family="system-ui, sans-serif" font-size="12">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def latencies(result: RateResult) -> dict[str, float]:
    assert result.latency_ms is not None
    return {name: max(getattr(result.latency_ms, name), 0.001) for name in LINES}


def linear(low: float, high: float) -> Scale:
    return lambda value: LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def logarithmic(low: int, high: int) -> Scale:
    room = HEIGHT - TOP - BOTTOM
    return lambda value: TOP + (1 - (math.log10(value) - low) / (high - low)) * room


def text(x: float, y: float, said: str, anchor: str = "middle", fill: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{said}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {look}/>'


def axis_y(decades: Sequence[int], y: Scale) -> list[str]:
    found = [text(LEFT, TOP - 16, "latency in ms, from the intended time", "start")]
    for power in decades:
        at = y(10.0**power)
        found.append(rule(LEFT, at, WIDTH - RIGHT, at, 'stroke="#ddd"'))
        found.append(text(LEFT - 8, at + 4, f"{10.0**power:g}", "end"))
    return found


def axis_x(results: Sequence[RateResult], x: Scale) -> list[str]:
    bottom = HEIGHT - BOTTOM
    found = [
        rule(LEFT, bottom, WIDTH - RIGHT, bottom, 'stroke="#333"'),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "offered requests a second"),
    ]
    last = -math.inf
    for one in results:
        at = x(one.offered)
        found.append(rule(at, bottom, at, bottom + 5, 'stroke="#333"'))
        if at - last > 36:  # so that two numbers do not touch
            found.append(text(at, bottom + 20, f"{one.offered:.3g}"))
            last = at
    return found


def slo(limit_ms: float, y: Scale) -> list[str]:
    at = y(limit_ms)
    return [
        rule(LEFT, at, WIDTH - RIGHT, at, 'stroke="#333" stroke-dasharray="6 4"'),
        text(LEFT + 6, at - 5, f"limit of p99: {limit_ms:g} ms", "start"),
    ]


def knee(report: Report, x: Scale) -> list[str]:
    if report.knee.holds is None:
        return []
    at = x(report.knee.holds)
    look = 'stroke="#009e73" stroke-width="2" stroke-dasharray="2 3"'
    said = f"holds {report.knee.holds:.3g}/s"
    return [
        rule(at, TOP, at, HEIGHT - BOTTOM, look),
        text(at, TOP - 4, said, "middle", "#00694d"),
    ]


def line(name: str, results: Sequence[RateResult], x: Scale, y: Scale) -> list[str]:
    """A curve with a dot at each rate, hollow where the figures are invalid."""
    colour = LINES[name]
    points = [(x(one.offered), y(latencies(one)[name]), bool(one.invalid)) for one in results]
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in points)
    found = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for px, py, hollow in points:
        fill = "#fff" if hollow else colour
        found.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{fill}" stroke="{colour}"/>')
    px, py, _ = points[-1]
    away = -10 if name == "p99" else 20
    return [*found, text(px, py + away, name, "end", colour)]
