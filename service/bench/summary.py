"""From the samples of a rate to its figures, and whether they may be believed."""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from service.bench.open_loop import OK, Sample

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
# The generator's own delay that is no fault: of its p99, in seconds, and as a share of the p99 of
# latencies.
FREE_LAG_SECONDS = 0.01
FREE_LAG_SHARE = 0.2
BUSY_SHARE = 0.9


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds; quantiles by nearest rank."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float


class RateResult(msgspec.Struct, frozen=True, kw_only=True):
    """One rate of requests a second.

    ``latency_ms`` counts from the intended time and ``from_sending_ms`` from the moment a
    connection was there, as closed loops measure; both are of requests that succeeded.
    ``within_slo`` is the share of all requests that succeeded in time. ``invalid`` says why the
    figures are of the generator or the cache and not of the model; empty when they are the model's.
    """

    offered: float
    seconds: float
    sent: int
    succeeded: int
    achieved: float
    items_per_second: float
    tokens_per_second: float
    tokens_per_item: float
    cached_share: float
    failed_items: int
    latency_ms: Latency | None
    from_sending_ms: Latency | None
    within_slo: float
    outcomes: dict[str, int]
    statuses: dict[str, int]
    waited_for_connection: int
    lag_p99_ms: float
    client_cpu_share: float
    invalid: list[str]

    @property
    def error_share(self) -> float:
        return 1 - self.succeeded / self.sent if self.sent else 0.0


def quantile(ordered: Sequence[float], q: float) -> float:
    """The smallest value that at least a share ``q`` of them do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def latency_of(seconds: Sequence[float]) -> Latency | None:
    if not seconds:
        return None
    ordered = sorted(1000 * one for one in seconds)
    p50, p90, p95, p99, p999 = (quantile(ordered, q) for q in QUANTILES)
    return Latency(math.fsum(ordered) / len(ordered), p50, p90, p95, p99, p999, ordered[-1])


def summarise(
    samples: Sequence[Sample],
    *,
    rate: float,
    seconds: float,
    slo_ms: float,
    client_cpu_share: float,
    all_new: bool,
) -> RateResult:
    """Of one request or more; throughput until the last answer, so that a backlog is no success.
    ``all_new``: no text was sent before, so none may come from the cache."""
    good = [one for one in samples if one.answer.outcome == OK]
    took = max([seconds, *(one.done for one in samples)])
    items, tokens, cached = added(good)
    latency = latency_of([one.latency for one in good])
    lag = quantile(sorted(one.lag for one in samples), 0.99)
    return RateResult(
        offered=rate,
        seconds=seconds,
        sent=len(samples),
        succeeded=len(good),
        achieved=len(good) / took,
        items_per_second=items / took,
        tokens_per_second=tokens / took,
        tokens_per_item=tokens / items if items else 0.0,
        cached_share=cached / items if items else 0.0,
        failed_items=sum(one.answer.failed for one in good),
        latency_ms=latency,
        from_sending_ms=latency_of([one.done - one.sent for one in good]),
        within_slo=within(good, slo_ms) / len(samples),
        outcomes=dict(Counter(one.answer.outcome for one in samples).most_common()),
        statuses=dict(Counter(str(one.answer.status) for one in samples).most_common()),
        waited_for_connection=sum(one.sent - one.dispatched > FREE_LAG_SECONDS for one in samples),
        lag_p99_ms=1000 * lag,
        client_cpu_share=client_cpu_share,
        invalid=[
            *invalid(lag, latency, client_cpu_share),
            *known_before(cached if all_new else 0, items),
        ],
    )


def added(good: Sequence[Sample]) -> tuple[int, int, int]:
    """Items, tokens and items from the cache of all answers."""
    answers = [one.answer for one in good]
    items, tokens = sum(a.items for a in answers), sum(a.tokens for a in answers)
    return items, tokens, sum(a.cached for a in answers)


def within(good: Sequence[Sample], slo_ms: float) -> int:
    return sum(1000 * one.latency <= slo_ms for one in good)


def invalid(lag_p99: float, latency: Latency | None, client_cpu_share: float) -> list[str]:
    """Why the generator and not the server was measured."""
    found = []
    p99 = latency.p99 / 1000 if latency else 0.0
    if lag_p99 > max(FREE_LAG_SECONDS, FREE_LAG_SHARE * p99):
        found.append(
            f"the generator sent {1000 * lag_p99:.0f} ms late (p99): "
            "run it on another machine than the server, or lower the rate"
        )
    if client_cpu_share > BUSY_SHARE:
        found.append(
            f"the generator used {client_cpu_share:.0%} of its core: lower the rate, "
            "or run several generators"
        )
    return found


def known_before(cached: int, items: int) -> list[str]:
    """Why the cache and not the model was measured; ``cached`` counts items, as ``items`` does."""
    if not cached:
        return []
    return [
        f"{cached / items:.1%} of items came from the cache, though their texts were to be new: "
        "give more --prompt-tokens and --response-tokens"
    ]


def breaks(result: RateResult, slo_ms: float, most_errors: float) -> str | None:
    """Why a rate is too much for the server, or None."""
    if result.error_share > most_errors:
        return f"{result.error_share:.1%} of requests failed"
    if result.latency_ms is None:
        return "no request succeeded"
    if result.latency_ms.p99 > slo_ms:
        return f"p99 {result.latency_ms.p99:.0f} ms is over {slo_ms:g} ms"
    return None
