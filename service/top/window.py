"""Between two scrapes of one server: by how much each counter grew."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.top.histogram_quantile import histogram_quantile
from service.top.scrape import Labels, Samples, Scrape, Series

START = "process_start_time_seconds"


@dataclass(frozen=True)
class Window:
    """``increases`` of counters over ``seconds``; ``gauges`` as they are at the end."""

    seconds: float
    increases: Samples
    gauges: Samples
    restarted: bool = False

    def rate(self, name: str, **labels: str) -> float:
        """A second."""
        return total(self.increases, name, **labels) / self.seconds

    def quantile(self, q: float, name: str, **labels: str) -> float:
        """Of a histogram's observations within the window, NaN if there were none."""
        buckets = by(self.increases, f"{name}_bucket", "le", **labels)
        return histogram_quantile(q, {float(bound): count for bound, count in buckets.items()})

    def mean(self, name: str) -> float:
        """Of a histogram's observations within the window; NaN if there were none."""
        count = total(self.increases, f"{name}_count")
        return total(self.increases, f"{name}_sum") / count if count else float("nan")


def between(before: Scrape, after: Scrape) -> Window:
    """After a restart all counters began at zero, so what they have is what was added."""
    anew = restarted(before, after)
    increases = {
        name: grown({} if anew else before.counters.get(name, {}), series)
        for name, series in after.counters.items()
    }
    return Window(after.at - before.at, increases, after.gauges, anew)


def grown(old: Series, new: Series) -> Series:
    """By how much each series of a name grew. One that is new began at zero. So did one that is
    smaller, and all of a histogram that is or has lost a bucket: a swap begins a model's scores
    anew, between edges of their own."""
    begun = {without_edge(labels) for labels, value in old.items() if new.get(labels, 0.0) < value}
    return {
        labels: value - (0.0 if without_edge(labels) in begun else old.get(labels, 0.0))
        for labels, value in new.items()
    }


def without_edge(labels: Labels) -> Labels:
    return tuple(one for one in labels if one[0] != "le")


def restarted(before: Scrape, after: Scrape) -> bool:
    """Whether another process answers, by when it says that it started. One that does not say, as
    only Linux tells it, is known by a counter that is smaller: all are young then, also those that
    have grown past the old ones already. A series that is dropped tells nothing."""
    if START in before.gauges and START in after.gauges:
        return total(before.gauges, START) != total(after.gauges, START)
    return any(
        after.counters.get(name, {}).get(labels, value) < value
        for name, series in before.counters.items()
        for labels, value in series.items()
    )


def together(windows: Iterable[Window]) -> Window:
    """Several servers as one: counters are added, so rates and quantiles are those of all. Gauges
    are left out: what adds up differs by gauge."""
    every = list(windows)
    increases: Samples = {}
    for one in every:
        for name, series in one.increases.items():
            into = increases.setdefault(name, {})
            for labels, value in series.items():
                # In rates, as each server was looked at over its own time.
                into[labels] = into.get(labels, 0.0) + value / one.seconds
    return Window(1.0, increases, {}, any(one.restarted for one in every))


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of all series of a name that have these labels."""
    wanted = set(labels.items())
    return sum(v for given, v in samples.get(name, {}).items() if wanted <= set(given))


def where(samples: Samples, name: str, label: str, fits: Callable[[str], bool]) -> Samples:
    """The series of one name whose label fits."""
    series = samples.get(name, {})
    return {name: {given: v for given, v in series.items() if fits(dict(given).get(label, ""))}}


def by(samples: Samples, name: str, label: str, **labels: str) -> dict[str, float]:
    """Sums by the values of one label, in the order of their first series."""
    wanted = set(labels.items())
    found: dict[str, float] = {}
    for given, value in samples.get(name, {}).items():
        if wanted <= set(given) and label in dict(given):
            key = dict(given)[label]
            found[key] = found.get(key, 0.0) + value
    return found
