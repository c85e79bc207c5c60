"""Writes dashboards/latency.json, the "Plaudit latency" dashboard: python docker/grafana/latency.py

Validated against Prometheus and against our own rules, not against a Grafana server.
"""

import json
from pathlib import Path
from typing import Any

Panel = dict[str, Any]

HERE = Path(__file__).parent
COLUMNS = 24
HEIGHT = 8
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELECTED = 'job=~"$job",instance=~"$instance"'
ROUTE = 'route=~"$route"'
# A replica that is still loading answers its probes 503, which is no failure of a caller's request.
NO_PROBES = 'route!~"/livez|/readyz|/metrics"'
NO_TRAFFIC = {"type": "special", "options": {"match": "null+nan", "result": {"text": "No traffic"}}}


def series(metric: str, *matchers: str) -> str:
    return f"{metric}{{{','.join((SELECTED, *matchers))}}}"


def rate(metric: str, *matchers: str) -> str:
    return f"rate({series(metric, *matchers)}[$__rate_interval])"


def mean(histogram: str, by: str = "") -> str:
    """The mean observation: for one label by when given, else over everything selected."""
    total = f"sum by ({by})" if by else "sum"
    return f"{total} ({rate(histogram + '_sum')}) / {total} ({rate(histogram + '_count')})"


def quantile(q: float, histogram: str, *matchers: str, by: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) ({rate(histogram + '_bucket', *matchers)}))"


def query(expr: str, legend: str) -> dict[str, str]:
    return {"expr": expr, "legendFormat": legend}


def panel(
    title: str,
    text: str,
    unit: str,
    *queries: dict[str, str],
    low: float | None = 0,
    high: float | None = None,
    custom: dict[str, Any] | None = None,
) -> Panel:
    """A time series. The text ends in the metric's name, so that a search for it leads here."""
    return {
        "type": "timeseries",
        "title": title,
        "description": text,
        "datasource": DATASOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                **{end: at for end, at in (("min", low), ("max", high)) if at is not None},
                "mappings": [NO_TRAFFIC],
                "color": {"mode": "palette-classic"},
                "custom": {"drawStyle": "line", "showPoints": "never", **(custom or {})},
            },
            "overrides": [],
        },
        "options": {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": DATASOURCE, "range": True, **each}
            for n, each in enumerate(queries)
        ],
    }


def with_thresholds(made: Panel, warn: float, alarm: float) -> Panel:
    steps = [("green", None), ("orange", warn), ("red", alarm)]
    made["fieldConfig"]["defaults"]["thresholds"] = {
        "mode": "absolute",
        "steps": [{"color": color, "value": value} for color, value in steps],
    }
    return made


def with_states(made: Panel, *states: str) -> Panel:
    """Words for 0, 1, and so on; the first is the healthy one."""
    words = {
        str(n): {"text": state, "color": "red" if n else "green"} for n, state in enumerate(states)
    }
    made["fieldConfig"]["defaults"]["mappings"] = [{"type": "value", "options": words}]
    return made


def traffic() -> list[Panel]:
    requests = "plaudit_http_requests_total"
    answered = rate(requests, NO_PROBES, ROUTE)
    failed = rate(requests, NO_PROBES, ROUTE, 'code=~"5.."')
    return [
        panel(
            "Requests",
            f"Requests per second by route, probes and scrapes left out: {requests}",
            "reqps",
            query(f"sum by (route) ({answered})", "{{route}}"),
        ),
        with_thresholds(
            panel(
                "Error ratio",
                "Share of requests answered 5xx, shedding with 503 included; the lines are 0.1 % "
                f"and 1 %: {requests}",
                "percentunit",
                query(f"(sum ({failed}) or vector(0)) / sum ({answered})", "errors"),
                custom={"thresholdsStyle": {"mode": "line"}},
            ),
            warn=0.001,
            alarm=0.01,
        ),
    ]


def request_duration(q: float) -> Panel:
    histogram = "plaudit_http_request_duration_seconds"
    return panel(
        f"Request duration, p{q * 100:.0f}",
        f"What the callers of a route wait for at the {q * 100:.0f}th percentile, failures "
        f"included: {histogram}",
        "s",
        query(quantile(q, histogram, NO_PROBES, ROUTE, by="route"), "{{route}}"),
    )


def stages() -> list[Panel]:
    histogram = "plaudit_stage_duration_seconds"
    return [
        panel(
            "Stage breakdown, mean",
            "Mean time in each stage of a score, stacked. A wide queue band asks for replicas, "
            "a wide compute band for a faster engine. A stage counts only when it ran, so cache "
            f"hits do not thin the compute band: {histogram}",
            "s",
            query(mean(histogram, by="stage"), "{{stage}}"),
            custom={"fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}},
        ),
        panel(
            "Stage duration, p99",
            f"The slowest hundredth of each stage; percentiles do not add up: {histogram}",
            "s",
            query(quantile(0.99, histogram, by="stage"), "{{stage}}"),
        ),
    ]


def queue() -> list[Panel]:
    rejections, expired = "plaudit_admission_rejections_total", "plaudit_deadline_expired_total"
    return [
        panel(
            "Queued tokens",
            "Tokens admitted and waiting for a batch; the autoscaler acts on this: "
            "plaudit_queue_tokens",
            "short",
            query(series("plaudit_queue_tokens"), "{{instance}}"),
        ),
        panel(
            "Oldest item in the queue",
            "How long the first in line has waited. Growing while the engine is busy means too "
            "little capacity, growing while it is idle a hang: plaudit_queue_oldest_age_seconds",
            "s",
            query(series("plaudit_queue_oldest_age_seconds"), "{{instance}}"),
        ),
        panel(
            "Refused and expired",
            "Requests refused for want of room, and those whose deadline passed before they were "
            f"computed: {rejections}, {expired}",
            "reqps",
            query(f"sum by (reason) ({rate(rejections)})", "refused: {{reason}}"),
            query(f"sum by (where) ({rate(expired)})", "expired: {{where}}"),
        ),
    ]


def batches() -> list[Panel]:
    return [
        panel(
            "Tokens per batch",
            "Tokens of one forward, mean and 99th percentile: plaudit_batch_tokens",
            "short",
            query(mean("plaudit_batch_tokens"), "mean"),
            query(quantile(0.99, "plaudit_batch_tokens"), "p99"),
        ),
        panel(
            "Batch fill",
            "Mean share of the token budget that a batch used. Low with a queue means items that "
            "do not fit together: plaudit_batch_fill_ratio",
            "percentunit",
            query(mean("plaudit_batch_fill_ratio"), "fill"),
            high=1,
        ),
        panel(
            "Padding waste",
            "Mean share of computed tokens that were padding; the packed forward has none: "
            "plaudit_padding_waste_ratio",
            "percentunit",
            query(mean("plaudit_padding_waste_ratio"), "waste"),
            high=1,
        ),
    ]


def cache() -> list[Panel]:
    lookups, breaker = "plaudit_cache_lookups_total", "plaudit_cache_breaker_state"
    found, asked = rate(lookups, 'result="hit"'), f"sum by (tier) ({rate(lookups)})"
    # A tier without a single hit has no hit series yet: that is a ratio of 0, not a gap.
    ratio = f"(sum by (tier) ({found}) or 0 * {asked}) / {asked}"
    return [
        panel(
            "Cache hit ratio",
            "Share of lookups found, by tier; redis is asked only for what l1 did not hold: "
            f"{lookups}",
            "percentunit",
            query(ratio, "{{tier}}"),
            high=1,
        ),
        with_states(
            panel(
                "Redis breaker",
                "Open means that Redis failed and is left alone for a while: scores still flow, "
                f"without the shared cache: {breaker}",
                "short",
                query(series(breaker), "{{instance}}"),
                custom={"lineInterpolation": "stepAfter"},
            ),
            "closed",
            "open",
        ),
    ]


def scores() -> list[Panel]:
    histogram = "plaudit_score"
    deciles = {"p10": 0.1, "median": 0.5, "p90": 0.9}
    return [
        panel(
            "Scores",
            "Raw scores by model: the middle, and the span of four fifths of them. A histogram "
            "with negative edges exports no sum, so the centre is the median, not the mean: "
            f"{histogram}",
            "short",
            *(
                query(quantile(q, histogram, by="model"), "{{model}} " + name)
                for name, q in deciles.items()
            ),
            low=None,
        )
    ]


def place(rows: list[list[Panel]]) -> list[Panel]:
    """Rows from top to bottom, each one's panels sharing its width evenly."""
    placed: list[Panel] = []
    for y, row in enumerate(rows):
        width = COLUMNS // len(row)
        for x, made in enumerate(row):
            grid = {"x": x * width, "y": y * HEIGHT, "w": width, "h": HEIGHT}
            placed.append({"id": len(placed) + 1, "gridPos": grid, **made})
    return placed


def variable(name: str, label: str, values: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "definition": values,
        "query": {"query": values, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def variables() -> list[dict[str, Any]]:
    requests = series("plaudit_http_requests_total", NO_PROBES)
    source = {"type": "datasource", "name": "datasource", "label": "Data source"}
    return [
        source | {"query": "prometheus", "current": {}},
        variable("job", "Job", "label_values(plaudit_build_info, job)"),
        variable("instance", "Instance", 'label_values(plaudit_build_info{job=~"$job"}, instance)'),
        variable("route", "Route", f"label_values({requests}, route)"),
    ]


def dashboard() -> dict[str, Any]:
    rows = [
        traffic(),
        [request_duration(q) for q in (0.5, 0.95, 0.99)],
        stages(),
        queue(),
        batches(),
        [*cache(), *scores()],
    ]
    return {
        "uid": "plaudit-latency",
        "title": "Plaudit latency",
        "description": "Where the time of a score goes: queue, compute or cache.",
        "tags": ["plaudit"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": variables()},
        "panels": place(rows),
    }


def render() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    (HERE / "dashboards" / "latency.json").write_text(render())
