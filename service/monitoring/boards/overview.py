"""Is the service keeping its promises, and if not, where to look."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from service.monitoring.boards.board import board
from service.monitoring.boards.levels import Levels, above, below
from service.monitoring.boards.links import jump
from service.monitoring.boards.panels import Panel, graph, stat_of
from service.monitoring.boards.promql import (
    OF_MODEL,
    SCORING,
    Query,
    quantile,
    recorded,
    series,
    share,
    total,
)

AVAILABLE, FAST = 0.999, 0.99
REQUESTS = "plaudit_http_requests_total"
DURATION = "plaudit_http_request_duration_seconds"
ERRORS = "plaudit:request_errors:ratio_rate"
SLOW = "plaudit:slow_answers:ratio_rate"


def overview() -> Dashboard:
    rows = [
        ("Objectives", objectives()),
        ("Now", now()),
        ("Traffic", traffic()),
        ("Why is it slow? Click a line", latencies()),
        ("Errors", errors()),
    ]
    return board("overview", "Is the service keeping its promises, and where is it not?", rows)


def objectives() -> list[Panel]:
    return [
        *kept("Available", "requests that were not answered 5xx", ERRORS, AVAILABLE, "latency"),
        *kept("Fast enough", "scoring answers within the edge", SLOW, FAST, "latency"),
    ]


def kept(title: str, what: str, missed: str, target: float, to: str) -> list[Panel]:
    """How well an objective was kept, short and long, and what it may still miss."""
    levels = below(target, 1 - 10 * (1 - target))
    left = f"1 - {recorded(missed + '30d')} / {1 - target:g}"
    return [
        stat_of(
            f"{title}, 1 h",
            f"Share of {what} in the last hour; {target:.1%} is promised",
            "percentunit",
            Query(f"1 - {recorded(missed + '1h')}"),
            levels,
        ).data_links([jump(to, "Which stage?")]),
        stat_of(
            f"{title}, 30 d",
            f"Share of {what} in 30 days; {target:.1%} is promised",
            "percentunit",
            Query(f"1 - {recorded(missed + '30d')}"),
            levels,
        ),
        stat_of(
            f"{title}: budget left",
            f"What is left of the {1 - target:.1%} that 30 days may miss; below 0 the promise is "
            "broken",
            "percentunit",
            Query(left),
            below(0.5, 0),
        ),
    ]


def now() -> list[Panel]:
    hits, lookups = "plaudit:cache_hits:rate5m", "plaudit:cache_lookups:rate5m"
    oldest = "plaudit_queue_oldest_age_seconds"
    ready = f"sum ({series('plaudit_ready')})"
    return [
        stat_of(
            "p99 of scoring",
            "What the slowest hundredth of scoring requests takes. Click for the stage that "
            "takes it",
            "s",
            Query(quantile(0.99, DURATION, SCORING)),
            above(0.25, 1),
        ).data_links([jump("latency", "Why is p99 high?")]),
        stat_of(
            "Error ratio",
            "Share of scoring requests answered 5xx, shedding with 503 included",
            "percentunit",
            Query(share(total(REQUESTS, SCORING, 'code=~"5.."'), total(REQUESTS, SCORING))),
            above(0.001, 0.01),
        ),
        stat_of(
            "Oldest in the queue",
            "Age of the oldest item that waits for a forward, on the worst replica; 0 when none "
            "waits",
            "s",
            Query(f"max ({series(oldest)})"),
            above(1, 5),
        ).data_links([jump("capacity", "Is there room?")]),
        stat_of(
            "Cache hits",
            "Share of sequences that a cache had the score of, over 5 minutes",
            "percentunit",
            Query(f"sum ({recorded(hits)}) / sum ({recorded(lookups)})"),
        ).data_links([jump("cache", "Which tier?")]),
        stat_of(
            "Ready replicas",
            "Replicas whose models are loaded and gave their probes' scores",
            "short",
            Query(ready),
            below(1, 1),
        ).data_links([jump("capacity", "What do they do?")]),
        stat_of(
            "Unreachable targets",
            "Replicas that Prometheus knows of and could not scrape",
            "short",
            Query(f"sum (1 - {series('up')})"),
            Levels((("green", None), ("red", 1))),
        ),
    ]


def traffic() -> list[Panel]:
    tokens = total("plaudit_tokens_total", by="kind")
    return [
        graph(
            "Requests",
            "Scoring requests by route",
            "reqps",
            Query(total(REQUESTS, SCORING, by="route"), "{{route}}"),
        ),
        graph(
            "Rewards",
            "Rewards given by model, cached ones included; a new revision begins a new line",
            "cps",
            Query(
                total("plaudit_rewards_total", OF_MODEL, by="model, revision"),
                "{{model}} {{revision}}",
            ),
        ),
        graph(
            "Tokens",
            "Tokens by kind: real of the sequences, computed where prefixes are shared, padded",
            "cps",
            Query(tokens, "{{kind}}"),
        ),
    ]


def latencies() -> list[Panel]:
    return [
        graph(
            f"Request duration, p{100 * q:.0f}",
            f"What callers of a route wait for at the {100 * q:.0f}th percentile, failures "
            "included. Click a line for the stage that takes it",
            "s",
            Query(quantile(q, DURATION, SCORING, by="route"), "{{route}}"),
        )
        .data_links([jump("latency", "Why is it high?")])
        .links([jump("latency", "Why is it high?")])
        for q in (0.5, 0.95, 0.99)
    ]


def errors() -> list[Panel]:
    failed = total(REQUESTS, SCORING, 'code=~"5.."')
    return [
        graph(
            "Error ratio by time",
            "Share of scoring requests answered 5xx; the lines are 0.1 % and 1 %",
            "percentunit",
            Query(share(failed, total(REQUESTS, SCORING)), "errors"),
            levels=above(0.001, 0.01),
        ),
        graph(
            "Failed requests",
            "Failed requests by type; docs/problems.md says what mends each",
            "reqps",
            Query(total("plaudit_errors_total", by="type"), "{{type}}"),
        ),
    ]
