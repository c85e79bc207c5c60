"""The figures that are shown, out of a window's counters."""

import math
from dataclasses import dataclass, replace

from service.scoring_routes import scores
from service.stages import STAGES as ORDER
from service.top.window import Window, by, total, where

REQUESTS = "plaudit_http_request_duration_seconds"
STAGES = "plaudit_stage_duration_seconds"


@dataclass(frozen=True)
class ServerFigures:
    """Rates a second, quantiles in seconds, shares from 0 to 1; NaN where there was nothing."""

    requests: float
    items: float
    tokens: float
    p50: float
    p99: float
    queued_items: float
    queued_tokens: float
    fill: float
    hits: float
    errors: float
    error_types: dict[str, float]
    restarted: bool


@dataclass(frozen=True)
class StageFigures:
    name: str
    rate: float
    p50: float
    p99: float


@dataclass(frozen=True)
class ModelFigures:
    """``median`` of the window's scores; ``mean`` and ``std`` of the server's own longer window,
    ``psi`` its drift from the reference. NaN for what the server does not say."""

    name: str
    scores: float
    median: float
    mean: float
    std: float
    psi: float


def server(window: Window) -> ServerFigures:
    errors = by(window.increases, "plaudit_errors_total", "type")
    return ServerFigures(
        requests=requests(window),
        items=window.rate("plaudit_rewards_total"),
        tokens=window.rate("plaudit_tokens_total", kind="real"),
        p50=latency(window, 0.5),
        p99=latency(window, 0.99),
        queued_items=total(window.gauges, "plaudit_queue_items"),
        queued_tokens=total(window.gauges, "plaudit_queue_tokens"),
        fill=window.mean("plaudit_batch_fill_ratio"),
        hits=hits(window),
        errors=sum(errors.values()) / window.seconds,
        error_types={name: count / window.seconds for name, count in errors.items() if count},
        restarted=window.restarted,
    )


def requests(window: Window) -> float:
    """A second, of those for rewards: without probes, scrapes and pages."""
    routes = by(window.increases, "plaudit_http_requests_total", "route")
    return sum(n for route, n in routes.items() if scores(route)) / window.seconds


def latency(window: Window, q: float) -> float:
    """Seconds, of the requests for rewards."""
    asked = where(window.increases, f"{REQUESTS}_bucket", "route", scores)
    return replace(window, increases=asked).quantile(q, REQUESTS)


def hits(window: Window) -> float:
    """Share of lookups that some tier knew: each begins at the first."""
    name = "plaudit_cache_lookups_total"
    lookups = total(window.increases, name, tier="l1")
    return total(window.increases, name, result="hit") / lookups if lookups else math.nan


def stages(window: Window) -> list[StageFigures]:
    """Those that something passed, in order."""
    counts = by(window.increases, f"{STAGES}_count", "stage")
    return [
        StageFigures(
            name,
            counts[name] / window.seconds,
            window.quantile(0.5, STAGES, stage=name),
            window.quantile(0.99, STAGES, stage=name),
        )
        for name in ORDER
        if counts.get(name)
    ]


def models(window: Window) -> list[ModelFigures]:
    names = by(window.gauges, "plaudit_model_info", "model")
    # A histogram with buckets below zero has no sum, and the text format then no count either.
    counts = by(window.increases, "plaudit_score_bucket", "model", le="+Inf")
    return [
        ModelFigures(
            name,
            counts.get(name, 0.0) / window.seconds,
            window.quantile(0.5, "plaudit_score", model=name),
            gauge(window, "plaudit_score_mean", name),
            gauge(window, "plaudit_score_std", name),
            drift(window, name),
        )
        for name in names
    ]


def gauge(window: Window, name: str, model: str) -> float:
    return by(window.gauges, name, "model").get(model, math.nan)


def drift(window: Window, model: str) -> float:
    """The population stability index of the shorter window that there is."""
    windows = by(window.gauges, "plaudit_score_psi", "window", model=model)
    return windows.get("15m", windows.get("24h", math.nan))
