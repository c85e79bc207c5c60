"""Every metric of the service, declared once. Names are a contract: a test freezes them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

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
        self._real_tokens = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block of a request into plaudit_stage_duration_seconds, and its trace."""
        with self.traces.span(name), self.timed(name):
            yield

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """The same for a block that is no one request's."""
        began = time.perf_counter()
        yield
        self.requests.stage_seconds.labels(name).observe(time.perf_counter() - began)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a part of the start into plaudit_startup_phase_seconds."""
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
