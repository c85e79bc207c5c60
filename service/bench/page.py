"""The report as one HTML file that needs nothing else."""

from collections.abc import Iterable
from html import escape

from service.bench.chart import draw
from service.bench.report import HEAD, Report, cells, remarks, verdict

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ccc }
th:first-child, td:first-child, .facts th, .facts td { text-align: left }
code { overflow-wrap: anywhere }
.invalid { background: #fff0d6; padding: .5rem 1rem; border-left: 4px solid #b35c00 }
.wide { overflow-x: auto }
"""


def render(report: Report) -> str:
    parts = [
        "<h1>Latency over rate</h1>",
        f"<p><strong>{escape(verdict(report))}</strong></p>",
        warning(report),
        draw(report),
        '<div class="wide">' + table(HEAD, map(cells, report.rates)) + "</div>",
        "<p>Requests a second; milliseconds from the intended time of sending to the last byte, of "
        "requests that succeeded; share of all requests that succeeded within the limit.</p>",
        notes(report),
        "<h2>How it was measured</h2>",
        f'<div class="facts">{table(("what", "value"), facts(report))}</div>',
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>plaudit bench {escape(report.url)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def warning(report: Report) -> str:
    if report.valid:
        return ""
    return (
        '<p class="invalid">Some rates are <strong>invalid</strong>: there the generator or '
        "the cache was measured, not the model. They are hollow in the drawing.</p>"
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{lines}</tbody></table>"


def notes(report: Report) -> str:
    said = [(one.offered, remark) for one in report.rates for remark in remarks(one)]
    if not said:
        return ""
    lines = "".join(f"<li>{rate:.3g}/s: {escape(remark)}</li>\n" for rate, remark in said)
    return f"<ul>\n{lines}</ul>"


def facts(report: Report) -> list[tuple[str, str]]:
    models = "; ".join(f"{m.name} ({m.kind}, {m.revision[:19]}, {m.dtype})" for m in report.models)
    tokens = "" if report.tokens is None else f", {report.tokens[0]} + {report.tokens[1]} tokens"
    texts = f"from {report.data}" if report.data else f"generated{tokens}"
    return [
        ("command", report.command),
        ("began (UTC)", report.began),
        ("server", f"{report.url}{report.route}"),
        ("loaded there", models),
        ("workload", f"{report.workload}; texts {texts}"),
        ("arrivals", f"{report.arrivals}, seed {report.seed}, open loop, no retries"),
        ("warm-up", f"{report.warmup_seconds:g} s at the first rate, not counted"),
        ("limit", f"p99 {report.slo_ms:g} ms, {report.most_errors:.1%} of requests may fail"),
        ("plaudit bench", report.plaudit),
    ]
