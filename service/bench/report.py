"""The report that is kept: everything that was measured, and how."""

import msgspec

from plaudit.wire import ModelInfo
from service.bench.knee import Knee
from service.bench.summary import RateResult


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``began`` in UTC; ``tokens`` are what was asked for in a prompt and a response, None for a
    user's texts. ``most_errors`` is a share."""

    command: str
    plaudit: str
    url: str
    began: str
    models: list[ModelInfo]
    route: str
    workload: str
    data: str | None
    tokens: tuple[int, int] | None
    arrivals: str
    seed: int
    warmup_seconds: float
    slo_ms: float
    most_errors: float
    rates: list[RateResult]
    knee: Knee

    @property
    def valid(self) -> bool:
        return not any(one.invalid for one in self.rates)


def encode(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


FEW = 100
HEAD = ("rate", "achieved", "items/s", "tokens/s", "p50", "p90", "p99", "p99.9", "in SLO", "failed")


def cells(one: RateResult) -> list[str]:
    """A row of HEAD: requests a second, then milliseconds, then shares."""
    latency = one.latency_ms
    quantiles = ["-"] * 4
    if latency is not None:
        values = (latency.p50, latency.p90, latency.p99, latency.p999)
        quantiles = [f"{value:.1f}" if value < 100 else f"{value:.0f}" for value in values]
    return [
        f"{one.offered:.3g}", f"{one.achieved:.3g}", f"{one.items_per_second:,.0f}",
        f"{one.tokens_per_second:,.0f}", *quantiles, f"{one.within_slo:.1%}",
        f"{one.error_share:.1%}",
    ]  # fmt: skip


def verdict(report: Report) -> str:
    """The knee in a sentence."""
    knee = report.knee
    if not report.valid:
        held = "" if knee.holds is None else f"; {knee.holds:.3g} requests/s hold"
        return f"the knee is not known: {knee.why}{held}"
    if knee.holds is None:
        return f"no rate holds p99 within {report.slo_ms:g} ms: {knee.why}"
    if knee.breaks is None:
        return f"holds p99 within {report.slo_ms:g} ms at {knee.holds:.3g} requests/s; {knee.why}"
    return (
        f"the knee is between {knee.holds:.3g} and {knee.breaks:.3g} requests/s "
        f"(p99 within {report.slo_ms:g} ms): {knee.why}"
    )


def remarks(one: RateResult) -> list[str]:
    """What a reader must know of a rate beside its row."""
    found = [f"INVALID: {reason}" for reason in one.invalid]
    if one.sent < FEW:
        found.append(f"p99 of {one.sent} requests is the slowest of them: give more --seconds")
    failures = {name: count for name, count in one.outcomes.items() if name != "ok"}
    if failures:
        found.append("failed: " + ", ".join(f"{count} {name}" for name, count in failures.items()))
    statuses = {code: one.statuses[code] for code in ("429", "503") if code in one.statuses}
    if statuses:
        found.append(", ".join(f"{count} of {code}" for code, count in statuses.items()))
    if one.failed_items:
        found.append(f"{one.failed_items} items without a reward")
    if one.waited_for_connection:
        found.append(f"{one.waited_for_connection} requests waited for a connection")
    if one.cached_share:
        found.append(f"{one.cached_share:.1%} of items from the cache")
    return found
