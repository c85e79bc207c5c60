"""The figures as tables for a terminal, and as lines where there is none."""

import math
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from service.top import figures
from service.top.figures import ModelFigures, ServerFigures, StageFigures
from service.top.scrape import Down
from service.top.window import Window, together

Seen = Mapping[str, Window | Down]
NOTHING = "-"
# Bands of the population stability index that are in common use.
PSI_LOOK, PSI_ACT = 0.1, 0.25


def tables(seen: Seen) -> RenderableType:
    """Everything, of one moment."""
    windows = {name(url): one for url, one in seen.items() if isinstance(one, Window)}
    parts: list[RenderableType] = [servers(seen)]
    if windows:
        whole = together(windows.values())
        parts += [stages(figures.stages(whole)), models(windows)]
        errors = figures.server(whole).error_types
        if errors:
            parts.append("errors/s: " + ", ".join(f"{n} {rate(v)}" for n, v in errors.items()))
    return Group(*parts)


def servers(seen: Seen) -> Table:
    names = ("server", "req/s", "items/s", "tokens/s", "p50", "p99", "queue", "queued tokens",
             "fill", "hits", "errors/s", "")  # fmt: skip
    table = new_table(names)
    for url, one in seen.items():
        if isinstance(one, Down):
            table.add_row(name(url), *[NOTHING] * 10, one.why, style="red")
        else:
            found = figures.server(one)
            table.add_row(name(url), *cells(found), "restarted" if found.restarted else "")
    windows = [one for one in seen.values() if isinstance(one, Window)]
    if len(seen) > 1 and windows:
        table.add_section()
        table.add_row("all", *cells(whole(windows)), "", style="bold")
    return table


def whole(windows: Sequence[Window]) -> ServerFigures:
    """All servers as one; what waits in their queues is added."""
    found = figures.server(together(windows))
    each = [figures.server(one) for one in windows]
    return ServerFigures(
        **vars(found)
        | {
            "queued_items": sum(one.queued_items for one in each),
            "queued_tokens": sum(one.queued_tokens for one in each),
        }
    )


def cells(found: ServerFigures) -> list[str]:
    return [
        rate(found.requests), rate(found.items), rate(found.tokens), seconds(found.p50),
        seconds(found.p99), f"{found.queued_items:.0f}", f"{found.queued_tokens:.0f}",
        share(found.fill), share(found.hits), rate(found.errors),
    ]  # fmt: skip


def stages(found: Sequence[StageFigures]) -> Table:
    table = new_table(("stage", "per s", "p50", "p99"))
    for one in found:
        table.add_row(one.name, rate(one.rate), seconds(one.p50), seconds(one.p99))
    if not found:
        table.add_row("no request yet", *[NOTHING] * 3)
    return table


def models(windows: Mapping[str, Window]) -> Table:
    several = len(windows) > 1
    table = new_table(("model", "computed/s", "median", "mean 15m", "std 15m", "drift (PSI)"))
    for server, window in windows.items():
        for one in figures.models(window):
            label = f"{one.name} @ {server}" if several else one.name
            table.add_row(label, rate(one.scores), *scores(one), psi(one.psi))
    return table


def scores(one: ModelFigures) -> list[str]:
    return [NOTHING if math.isnan(x) else f"{x:.3f}" for x in (one.median, one.mean, one.std)]


def new_table(names: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, one in enumerate(names):
        table.add_column(one, justify="left" if number == 0 or not one else "right", no_wrap=True)
    return table


def lines(seen: Seen) -> list[str]:
    """One line a server, for logs: keys and values, as other programs read them."""
    found = []
    for url, one in seen.items():
        if isinstance(one, Down):
            found.append(f'server={name(url)} up=0 why="{one.why}"')
            continue
        row = zip(
            ("req/s", "items/s", "tokens/s", "p50", "p99", "queue", "queued_tokens", "fill",
             "hits", "errors/s"),
            cells(figures.server(one)),
            strict=True,
        )  # fmt: skip
        found.append(" ".join((f"server={name(url)} up=1", *(f"{k}={v}" for k, v in row))))
    return found


def name(url: str) -> str:
    """Host and port, without who logs in."""
    return urlsplit(url).netloc.rpartition("@")[2]


def rate(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value else "0"


def seconds(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    if value >= 1:
        return f"{value:.2f}s"
    return f"{1000 * value:.1f}ms" if value >= 0.001 else f"{1e6 * value:.0f}us"


def share(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.0%}"


def psi(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    band = "act" if value >= PSI_ACT else "look" if value >= PSI_LOOK else "stable"
    return f"{value:.3f} {band}"
