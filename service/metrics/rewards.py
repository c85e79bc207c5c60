"""Of scores and rewards: what was given, and whether it is still what the checkpoint promised."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from plaudit.checkpoint import Stats
from service.agreement import Agreement
from service.metrics.at_scrape import AtScrape, Series
from service.metrics.buckets import STD
from service.metrics.children import Children
from service.score_stream import ScoreStream

WINDOWS = ("15m", "24h")


class Rewards:
    def __init__(self, r: CollectorRegistry):
        self.streams: dict[str, ScoreStream] = {}
        self._revisions: dict[str, str] = {}
        self._served: set[tuple[str, str]] = set()
        self.agreements: dict[str, Agreement] = {}
        self.given = Children(Counter(
            "plaudit_rewards_total", "Rewards given, cached ones too, of the revision served now "
            "and of the one before it", ["model", "revision"], registry=r,
        ))  # fmt: skip
        self.sequences = Children(Counter(
            "plaudit_sequences_total", "Sequences that a model was asked for and could read, "
            "cached ones too", ["model"], registry=r,
        ))  # fmt: skip
        self.truncated = Children(Counter(
            "plaudit_truncated_total", "Sequences cut to fit", ["side"], registry=r
        ))  # fmt: skip
        self.nonfinite = Counter(
            "plaudit_nonfinite_total", "Scores that were NaN or infinite", ["model"], registry=r
        )
        self.ensemble_std = Histogram(
            "plaudit_ensemble_std", "Disagreement: std of members' rewards", ["ensemble"],
            buckets=STD, registry=r,
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
        self._canaries(r)
        Scores(self.streams, r)
        self._drift(r)
        self._agreement(r)

    def watch(self, model: str, revision: str, stats: Stats | None) -> None:
        """Follow the scores of a model from here on, whose reference is ``stats`` if it has one."""
        self.streams[model], self._revisions[model] = ScoreStream(stats), revision

    def serve(self, names: set[tuple[str, str]]) -> None:
        """``names`` with their revisions are what is served from here on. What was served until now
        keeps its series until the next change: requests under way still end in it, and
        Prometheus has not read its last rewards. Older ones are dropped."""
        for labels in self.given.keys() - (self._served | names):
            self.given.drop(labels)
        self._served = names

    def computed(self, model: str, revision: str, score: float, characters: int | None) -> None:
        """A finite score. One of a revision that is followed no more is nobody's."""
        if self._revisions[model] == revision:
            self.streams[model].add(score, characters)

    def watch_ensemble(self, ensemble: str, members: Sequence[str]) -> None:
        self.agreements[ensemble] = Agreement(members)

    def _canaries(self, r: CollectorRegistry) -> None:
        self.canary_drift = Gauge(
            "plaudit_canary_score_drift", "Largest distance of a stored probe's newest score from "
            "the one in reward.json", ["model"], registry=r,
        )  # fmt: skip
        self.canary_tolerance = Gauge(
            "plaudit_canary_score_tolerance", "The distance at which a start is refused, by the "
            "dtype", ["model"], registry=r,
        )  # fmt: skip
        self.canary_age = Gauge(
            "plaudit_canary_age_seconds", "Time since a probe was last scored", ["model"],
            registry=r,
        )  # fmt: skip
        self.invariance = Gauge(
            "plaudit_batch_invariance_max_abs_diff", "Largest difference between scores of one "
            "probe, beside whatever was scored with it, since the start", ["model"], registry=r,
        )  # fmt: skip

    def _drift(self, r: CollectorRegistry) -> None:
        AtScrape(
            GaugeMetricFamily, "plaudit_score_psi", "Population stability index of computed scores "
            "against the checkpoint's quantiles, over the window; absent below 1000 scores",
            ["model", "window"], self._psi, r,
        )  # fmt: skip
        for name, meaning, read in (
            ("plaudit_score_mean", "Mean of scores computed in the last 15 minutes",
             ScoreStream.mean),
            ("plaudit_score_std", "Their standard deviation", ScoreStream.std),
            ("plaudit_score_reference_mean", "Mean of scores on the checkpoint's reference set",
             lambda stream: stream.reference and stream.reference.mean),
            ("plaudit_score_reference_std", "Their standard deviation",
             lambda stream: stream.reference and stream.reference.std),
            ("plaudit_score_saturation_ratio", "Share of scores of the last 15 minutes beyond the "
             "reference's 5 % and 95 % quantiles: 0.1 on the reference itself",
             ScoreStream.saturation),
            ("plaudit_response_length_score_corr", "Correlation of score and characters of the "
             "response, last 15 minutes", ScoreStream.length_correlation),
        ):  # fmt: skip
            AtScrape(GaugeMetricFamily, name, meaning, ["model"], self._each(read), r)

    def _psi(self) -> Series:
        for model, stream in self.streams.items():
            for window in WINDOWS:
                value = stream.psi(window)
                if value is not None:
                    yield (model, window), value

    def _each(self, read: Callable[[ScoreStream], float | None]) -> Callable[[], Series]:
        def series() -> Series:
            for model, stream in self.streams.items():
                value = read(stream)
                if value is not None:
                    yield (model,), value

        return series

    def _agreement(self, r: CollectorRegistry) -> None:
        AtScrape(
            GaugeMetricFamily, "plaudit_ensemble_pairwise_corr", "Correlation of the raw scores of "
            "two members, last 15 minutes", ["ensemble", "first", "second"], self._pairwise, r,
        )  # fmt: skip
        AtScrape(
            GaugeMetricFamily, "plaudit_ensemble_disagree_ratio", "Share of rewards of the last 15 "
            "minutes whose members' rewards have a std over 1", ["ensemble"], self._disagree, r,
        )  # fmt: skip

    def _pairwise(self) -> Series:
        for ensemble, agreement in self.agreements.items():
            for first, second, value in agreement.correlations():
                yield (ensemble, first, second), value

    def _disagree(self) -> Series:
        for ensemble, agreement in self.agreements.items():
            value = agreement.disagreement()
            if value is not None:
                yield (ensemble,), value


class Scores(Collector):
    """The histogram of scores. Each model has its own edges, which one Histogram cannot."""

    def __init__(self, streams: dict[str, ScoreStream], registry: CollectorRegistry):
        self._streams = streams
        registry.register(self)

    def describe(self) -> Iterable[HistogramMetricFamily]:
        meaning = "Raw scores computed; edges are the quantiles of the checkpoint's reference set"
        return [HistogramMetricFamily("plaudit_score", meaning, labels=["model"])]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        [family] = self.describe()
        for model, stream in self._streams.items():
            total, buckets = 0.0, []
            for edge, count in zip((*stream.edges, float("inf")), stream.counts(), strict=True):
                total += count
                buckets.append((floatToGoString(edge), total))  # type: ignore[no-untyped-call]
            family.add_metric([model], buckets, sum_value=None)
        return [family]
