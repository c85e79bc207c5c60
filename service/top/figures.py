"""The figures that are shown, out of a window's counters."""

import math
from dataclasses import dataclass

from service.top.window import Window, by, total

REQUESTS = "plaudit_http_request_duration_seconds"
STAGES = "plaudit_stage_duration_seconds"
# In the order in which a request passes them.
ORDER = ("decode", "tokenize", "cache_get", "admit", "queue", "compute", "cache_set", "encode")
# Routes that are asked by machines that look after the server.
QUIET = {"/livez", "/readyz", "/metrics", "/ops"}


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
        items=items(window),
        tokens=window.rate("plaudit_tokens_total", kind="real"),
        p50=window.quantile(0.5, REQUESTS),
        p99=window.quantile(0.99, REQUESTS),
        queued_items=total(window.gauges, "plaudit_queue_items"),
        queued_tokens=total(window.gauges, "plaudit_queue_tokens"),
        fill=window.mean("plaudit_batch_fill_ratio"),
        hits=hits(window),
        errors=sum(errors.values()) / window.seconds,
        error_types={name: count / window.seconds for name, count in errors.items() if count},
        restarted=window.restarted,
    )


def requests(window: Window) -> float:
    """A second, without probes and scrapes."""
    routes = by(window.increases, "plaudit_http_requests_total", "route")
    return sum(n for route, n in routes.items() if route not in QUIET) / window.seconds


def items(window: Window) -> float:
    """Rewards a second; of a server that does not count them, lookups of its first cache, one for
    each item and member."""
    if "plaudit_rewards_total" in window.increases:
        return window.rate("plaudit_rewards_total")
    return window.rate("plaudit_cache_lookups_total", tier="l1")


def hits(window: Window) -> float:
    """Share of lookups that some tier knew: each begins at the first."""
    name = "plaudit_cache_lookups_total"
    lookups = total(window.increases, name, tier="l1")
    return total(window.increases, name, result="hit") / lookups if lookups else math.nan


def stages(window: Window) -> list[StageFigures]:
    """Those that something passed, in order."""
    counts = by(window.increases, f"{STAGES}_count", "stage")
    names = [*ORDER, *sorted(set(counts) - set(ORDER))]
    return [
        StageFigures(
            name,
            counts[name] / window.seconds,
            window.quantile(0.5, STAGES, stage=name),
            window.quantile(0.99, STAGES, stage=name),
        )
        for name in names
        if counts.get(name)
    ]


def models(window: Window) -> list[ModelFigures]:
    names = by(window.gauges, "plaudit_model_info", "model")
    counts = by(window.increases, "plaudit_score_count", "model")
    # A histogram with buckets below zero has no sum, and the text format then no count either.
    ends = by(window.increases, "plaudit_score_bucket", "model", le="+Inf")
    return [
        ModelFigures(
            name,
            (counts or ends).get(name, 0.0) / window.seconds,
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
