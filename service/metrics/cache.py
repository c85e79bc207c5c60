"""Of the score cache and of what it saves."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.metrics.buckets import SECONDS


class CacheUse:
    def __init__(self, r: CollectorRegistry):
        self.lookups = Counter(
            "plaudit_cache_lookups_total", "Lookups by tier (l1, redis) and result (hit, miss, "
            "error, corrupt)", ["tier", "result"], registry=r,
        )  # fmt: skip
        self.stores = Counter(
            "plaudit_cache_stores_total", "Scores for Redis to keep, by result (stored, error: "
            "refused, lost or late)", ["result"], registry=r,
        )  # fmt: skip
        self.op_seconds = Histogram(
            "plaudit_cache_op_duration_seconds", "Redis operations", ["op"], buckets=SECONDS,
            registry=r,
        )  # fmt: skip
        self.breaker = Gauge(
            "plaudit_cache_breaker_state", "0: Redis is used, 1: it is left alone", registry=r
        )
        self.joined = Counter(
            "plaudit_singleflight_joined_total", "Items that joined identical running work",
            registry=r,
        )  # fmt: skip
        self.saved_seconds = Counter(
            "plaudit_cache_saved_seconds_total", "Compute time that cached scores and joined work "
            "saved: their tokens at the mean cost of a token so far", registry=r,
        )  # fmt: skip
