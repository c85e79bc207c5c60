"""What the cache saves, and whether Redis is well."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from service.monitoring.boards.board import board
from service.monitoring.boards.panels import Panel, graph, stat_of, states
from service.monitoring.boards.promql import (
    OF_MODEL,
    Query,
    computed,
    mean,
    quantile,
    recorded,
    series,
    total,
)

LOOKUPS = "plaudit_cache_lookups_total"
BREAKER = "plaudit_cache_breaker_state"
JOINED = "plaudit_singleflight_joined_total"
SAVED = "plaudit_cache_saved_seconds_total"
STORES = "plaudit_cache_stores_total"
OPERATION = "plaudit_cache_op_duration_seconds"


def cache() -> Dashboard:
    rows = [
        ("At a glance", glance()),
        ("Hits", hits()),
        ("Redis, as the service sees it", redis_from_here()),
        ("Redis, as redis_exporter sees it", redis_itself()),
    ]
    return board("cache", "What does the cache save, and is Redis well?", rows)


def glance() -> list[Panel]:
    hit = f"sum ({recorded('plaudit:cache_hits:rate5m')})"
    return [
        stat_of(
            "Hits of both tiers",
            "Share of sequences that a cache had the score of, over 5 minutes",
            "percentunit",
            Query(f"{hit} / sum ({recorded('plaudit:cache_lookups:rate5m')})"),
        ),
        stat_of(
            "Compute saved",
            "Compute time that hits and joined work saved, in seconds a second: 1 is a whole "
            "engine",
            "short",
            Query(total(SAVED)),
        ),
        stat_of(
            "Redis breaker",
            "Open means that Redis failed and is left alone for a while: scores still flow, "
            "without the shared cache",
            "short",
            Query(f"max ({series(BREAKER)})"),
        ).mappings(states("closed", "open")),
    ]


def hits() -> list[Panel]:
    found, asked = total(LOOKUPS, 'result="hit"', by="tier"), total(LOOKUPS, by="tier")
    given = total("plaudit_rewards_total", OF_MODEL, by="model")
    return [
        graph(
            "Hit ratio by tier",
            "Share of lookups found; redis is asked only for what l1, this process, did not hold",
            "percentunit",
            # A tier without a single hit has no hit series yet: that is a ratio of 0, not a gap.
            Query(f"({found} or 0 * {asked}) / {asked}", "{{tier}}"),
        ).max(1),
        graph(
            "Joined work",
            "Sequences a second that joined identical work already running",
            "cps",
            Query(total(JOINED), "joined"),
        ),
        graph(
            "Rewards by model",
            "Rewards given, cached ones included; beside it what was computed",
            "cps",
            Query(given, "{{model}} given"),
            Query(computed(by="model"), "{{model}} computed"),
        ),
    ]


def redis_from_here() -> list[Panel]:
    return [
        graph(
            "Operations, mean and p99",
            "How long Redis takes to answer: mget asks for a batch of keys, set stores scores",
            "s",
            Query(mean(OPERATION, by="op"), "{{op}} mean"),
            Query(quantile(0.99, OPERATION, by="op"), "{{op}} p99"),
        ),
        graph(
            "Lookups by result",
            "Lookups by tier and result; error is counted while the breaker is open, corrupt is "
            "an entry whose signature did not fit and was not used",
            "cps",
            Query(total(LOOKUPS, by="tier, result"), "{{tier}} {{result}}"),
        ),
        graph(
            "Scores to keep",
            "Scores sent to Redis by result; error: it is full, read-only, lost or left alone, and "
            "the next replica computes them again",
            "cps",
            Query(total(STORES, by="result"), "{{result}}"),
        ),
        graph(
            "Breaker by replica",
            "Which replicas leave Redis alone",
            "short",
            Query(series(BREAKER), "{{instance}}"),
        ).mappings(states("closed", "open")),
    ]


def redis_itself() -> list[Panel]:
    return [
        graph(
            "Memory",
            "Memory used and allowed; a full cache evicts the least used, which is its job",
            "bytes",
            Query(foreign("redis_memory_used_bytes"), "used"),
            Query(foreign("redis_memory_max_bytes"), "allowed"),
        ),
        graph(
            "Evictions",
            "Keys evicted a second; many with few hits ask for more memory",
            "cps",
            Query(f"rate({foreign('redis_evicted_keys_total')}[$__rate_interval])", "evicted"),
        ),
        graph(
            "Clients",
            "Connections to Redis",
            "short",
            Query(foreign("redis_connected_clients"), "clients"),
        ),
    ]


def foreign(metric: str) -> str:
    """A metric of redis_exporter, whose job and instance are its own."""
    return f'{metric}{{job=~".*redis.*"}}'
