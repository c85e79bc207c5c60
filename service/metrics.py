"""Every metric of the service, declared once. Names are a contract: a test freezes them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
)  # fmt: skip
POWERS = tuple(float(2**i) for i in range(18))
RATIO = tuple(i / 20 for i in range(1, 21))
SCORE = tuple(float(i) / 2 for i in range(-12, 13))


class Metrics:
    """The instruments, on a registry of their own so that tests read a private one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests()
        self._batches()
        self._cache()
        self._rewards()

    def _requests(self) -> None:
        r = self.registry
        self.http_requests = Counter(
            "plaudit_http_requests_total", "HTTP requests", ["route", "method", "code"], registry=r
        )
        self.http_seconds = Histogram(
            "plaudit_http_request_duration_seconds", "Time from first byte of a request to last "
            "byte of its answer", ["route", "code_class"], buckets=SECONDS, registry=r,
        )  # fmt: skip
        self.errors = Counter(
            "plaudit_errors_total", "Failed requests by problem type", ["route", "type"],
            registry=r,
        )  # fmt: skip
        self.stage_seconds = Histogram(
            "plaudit_stage_duration_seconds", "Time a request or batch spends in a stage: decode, "
            "tokenize, cache_get, queue, compute, cache_set, encode", ["stage"], buckets=SECONDS,
            registry=r,
        )  # fmt: skip
        self.admission_rejections = Counter(
            "plaudit_admission_rejections_total", "Requests refused", ["reason"], registry=r
        )
        self.deadline_expired = Counter(
            "plaudit_deadline_expired_total", "Requests not done in time", ["where"], registry=r
        )

    def _batches(self) -> None:
        r = self.registry
        self.batch_items = Histogram(
            "plaudit_batch_items", "Sequences in a forward", buckets=POWERS, registry=r
        )
        self.batch_tokens = Histogram(
            "plaudit_batch_tokens", "Tokens computed in a forward", buckets=POWERS, registry=r
        )
        self.batch_fill = Histogram(
            "plaudit_batch_fill_ratio", "Computed tokens of a forward over its budget",
            buckets=RATIO, registry=r,
        )  # fmt: skip
        self.padding_waste = Histogram(
            "plaudit_padding_waste_ratio", "Share of padding in a forward", buckets=RATIO,
            registry=r,
        )  # fmt: skip
        self.tokens = Counter(
            "plaudit_tokens_total", "Tokens by kind: real (of the sequences), computed (sharing "
            "prefixes), padded (filler)", ["kind"], registry=r,
        )  # fmt: skip
        self.queue_items = Gauge("plaudit_queue_items", "Items waiting for a forward", registry=r)
        self.queue_tokens = Gauge(
            "plaudit_queue_tokens", "Tokens admitted and not yet answered", registry=r
        )
        self.queue_oldest = Gauge(
            "plaudit_queue_oldest_age_seconds", "Age of the oldest item in the batch now taken",
            registry=r,
        )  # fmt: skip

    def _cache(self) -> None:
        r = self.registry
        self.cache_lookups = Counter(
            "plaudit_cache_lookups_total", "Lookups by tier (l1, redis) and result (hit, miss, "
            "error, corrupt)", ["tier", "result"], registry=r,
        )  # fmt: skip
        self.cache_seconds = Histogram(
            "plaudit_cache_op_duration_seconds", "Redis operations", ["op"], buckets=SECONDS,
            registry=r,
        )  # fmt: skip
        self.cache_breaker = Gauge(
            "plaudit_cache_breaker_state", "0: Redis is used, 1: it is left alone", registry=r
        )
        self.joined = Counter(
            "plaudit_singleflight_joined_total", "Items that joined identical running work",
            registry=r,
        )  # fmt: skip

    def _rewards(self) -> None:
        r = self.registry
        self.score = Histogram(
            "plaudit_score", "Raw scores computed", ["model"], buckets=SCORE, registry=r
        )
        self.nonfinite = Counter(
            "plaudit_nonfinite_total", "Scores that were NaN or infinite", ["model"], registry=r
        )
        self.truncated = Counter(
            "plaudit_truncated_total", "Sequences cut to fit", ["side"], registry=r
        )
        self.ensemble_std = Histogram(
            "plaudit_ensemble_std", "Disagreement: std of members' rewards", ["ensemble"],
            buckets=tuple(i / 10 for i in range(1, 31)), registry=r,
        )  # fmt: skip
        self.degraded = Counter(
            "plaudit_ensemble_degraded_total", "Rewards of an ensemble without a member, by the "
            "type of its error", ["ensemble", "member", "type"], registry=r,
        )  # fmt: skip
        self.compat_filled = Counter(
            "plaudit_compat_filled_total", "Numbers given to other servers' clients in the place "
            "of an item's error, by policy (null, floor) and type of the error",
            ["peer", "policy", "type"], registry=r,
        )  # fmt: skip
        self.build_info = Gauge(
            "plaudit_build_info", "The version, as a label", ["version"], registry=r
        )
        self.model_info = Gauge(
            "plaudit_model_info", "Loaded models", ["model", "revision", "dtype", "engine"],
            registry=r,
        )  # fmt: skip

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block into plaudit_stage_duration_seconds."""
        began = time.perf_counter()
        yield
        self.stage_seconds.labels(name).observe(time.perf_counter() - began)
