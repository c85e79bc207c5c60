"""Of the queue and of forwards."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from service.metrics.at_scrape import AtScrape
from service.metrics.buckets import POWERS, RATIO


class Batches:
    def __init__(self, r: CollectorRegistry):
        self.items = Histogram(
            "plaudit_batch_items", "Sequences in a forward", buckets=POWERS, registry=r
        )
        self.batch_tokens = Histogram(
            "plaudit_batch_tokens", "Tokens computed in a forward", buckets=POWERS, registry=r
        )
        self.fill = Histogram(
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
            "plaudit_queue_tokens", "Tokens held or admitted and not yet computed", registry=r
        )
        self.quarantined = Gauge(
            "plaudit_quarantined_items", "Sequences that failed a forward by themselves and are "
            "not tried again yet", registry=r,
        )  # fmt: skip
        self.quarantine_refusals = Counter(
            "plaudit_quarantine_refusals_total", "Items refused because they are in quarantine",
            registry=r,
        )  # fmt: skip
        self._budgets: set[Callable[[], int]] = set()
        AtScrape(
            GaugeMetricFamily, "plaudit_batch_token_budget", "Tokens that one forward may have "
            "now: fewer for a while after one ran out of memory; absent with vLLM", [],
            lambda: [([], min(read() for read in self._budgets))] if self._budgets else [], r,
        )  # fmt: skip
        self._ages: set[Callable[[], float]] = set()
        AtScrape(
            GaugeMetricFamily, "plaudit_queue_oldest_age_seconds", "Age of the oldest request that "
            "is held for room, or item that waits for a forward; 0 when none waits", [],
            lambda: [([], self.oldest_age())], r,
        )  # fmt: skip

    def watch_queue(self, oldest_age: Callable[[], float]) -> None:
        """``oldest_age`` gives seconds, 0 for an empty queue."""
        self._ages.add(oldest_age)

    def leave_queue(self, oldest_age: Callable[[], float]) -> None:
        """The queue is no more."""
        self._ages.discard(oldest_age)

    def watch_budget(self, tokens: Callable[[], int]) -> None:
        """``tokens`` gives a queue's budget for one forward."""
        self._budgets.add(tokens)

    def leave_budget(self, tokens: Callable[[], int]) -> None:
        """The queue is no more."""
        self._budgets.discard(tokens)

    def oldest_age(self) -> float:
        return max((age() for age in self._ages), default=0.0)
