"""A metric that is read when it is scraped, and whose series may be absent."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

Family = GaugeMetricFamily | CounterMetricFamily
# Label values and the value, of each series that there is now.
Series = Iterable[tuple[Sequence[str], float]]


class AtScrape(Collector):
    """``read`` gives the series; a quantity that is not known has none, rather than a zero."""

    def __init__(
        self,
        family: type[GaugeMetricFamily] | type[CounterMetricFamily],
        name: str,
        meaning: str,
        labels: Sequence[str],
        read: Callable[[], Series],
        registry: CollectorRegistry,
    ):
        self._empty: Callable[[], Family] = partial(family, name, meaning, labels=labels)
        self._read = read
        registry.register(self)

    def describe(self) -> Iterable[Family]:
        return [self._empty()]

    def collect(self) -> Iterable[Family]:
        found = self._empty()
        for labels, value in self._read():
            found.add_metric(labels, value)
        return [found]
