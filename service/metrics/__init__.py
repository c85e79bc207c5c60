"""Every metric of the service, declared once. Names are a contract: a test freezes them."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.process_collector import ProcessCollector

from service.metrics.at_scrape import AtScrape, Series
from service.metrics.batches import Batches
from service.metrics.cache import CacheUse
from service.metrics.requests import Requests
from service.metrics.rewards import Rewards
from service.metrics.saturation import Saturation
from service.traces import OFF, Traces


class Metrics:
    """The instruments, on a registry of their own so that tests read a private one.

    ``traces`` get the stages too, as spans of the request that is being answered.
    """

    def __init__(self, traces: Traces = OFF) -> None:
        self.registry = CollectorRegistry()
        self.traces = traces
        ProcessCollector(registry=self.registry)
        self.requests = Requests(self.registry)
        self.batches = Batches(self.registry)
        self.cache = CacheUse(self.registry)
        self.rewards = Rewards(self.registry)
        self.saturation = Saturation(self.registry)
        AtScrape(
            CounterMetricFamily, "plaudit_spans_total", "Spans that a collector took, failed to "
            "take, and that were dropped because too many waited for it", ["result"],
            self._spans, self.registry,
        )  # fmt: skip
        self._real_tokens = 0
        self.latest_phase = "read"  # of the start, as in plaudit_startup_phase_seconds

    def _spans(self) -> Series:
        return [((fate,), count) for fate, count in self.traces.fates().items()]

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time a block of a request into plaudit_stage_duration_seconds, and its trace."""
        timed = self.timed(name)
        return timed if self.traces is OFF else self._traced(name, timed)

    @contextmanager
    def _traced(self, name: str, timed: "Timed") -> Iterator[None]:
        with self.traces.span(name), timed:
            yield

    def timed(self, name: str) -> "Timed":
        """The same for a block that is no one request's."""
        return Timed(self.requests.stage_seconds[name])

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a part of the start into plaudit_startup_phase_seconds."""
        self.latest_phase = name
        began = time.perf_counter()
        yield
        self.saturation.startup_seconds.labels(name).inc(time.perf_counter() - began)

    def computed(self, tokens: int) -> None:
        """Sequences of so many tokens were computed."""
        self.batches.tokens.labels("real").inc(tokens)
        self._real_tokens += tokens

    def saved(self, tokens: int) -> None:
        """Sequences of so many tokens need not be computed."""
        if self._real_tokens:
            cost = self.saturation.busy.seconds() / self._real_tokens
            self.cache.saved_seconds.inc(tokens * cost)


class Timed:
    """Observes how long its block took, unless that failed. Many times in each request: no
    generator, which would cost as much as all else here."""

    __slots__ = ("_began", "_seconds")

    def __init__(self, seconds: Histogram):
        self._seconds = seconds

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._seconds.observe(time.perf_counter() - self._began)
