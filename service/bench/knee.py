"""The search for the highest rate that a server holds."""

from collections.abc import Awaitable, Callable

import msgspec

from service.bench.summary import RateResult, breaks

GROWTH = 2.0
# The knee is known when the rate that breaks is so close above the one that holds.
CLOSE = 1.15
MOST_STEPS = 16


class Knee(msgspec.Struct, frozen=True):
    """The highest rate that held (None: not even the first did), the lowest that did not (None: the
    search ended before), and why."""

    holds: float | None
    breaks: float | None
    why: str


def next_rate(holds: float | None, breaks_at: float | None, first: float) -> float | None:
    """Double until it breaks, halve until it holds, then between the two; None: close enough."""
    if holds is None:
        return first if breaks_at is None else breaks_at / GROWTH
    if breaks_at is None:
        return holds * GROWTH
    return None if breaks_at / holds <= CLOSE else (holds * breaks_at) ** 0.5


async def find(
    measure: Callable[[float], Awaitable[RateResult]],
    first: float,
    slo_ms: float,
    most_errors: float,
) -> Knee:
    """Measure rates until the knee is known, or the generator itself is at its end."""
    holds, broken = None, None
    why = "not searched any further"
    for _ in range(MOST_STEPS):
        rate = next_rate(holds, broken, first)
        if rate is None:
            break
        result = await measure(rate)
        if result.invalid:  # it may have been another program's moment
            result = await measure(rate)
        if result.invalid:
            return Knee(holds, broken, f"at {rate:.3g}/s {result.invalid[0]}")
        reason = breaks(result, slo_ms, most_errors)
        if reason is None:
            holds = rate
        else:
            broken, why = rate, f"at {rate:.3g}/s {reason}"
    return Knee(holds, broken, why)


def of_rates(results: list[RateResult], slo_ms: float, most_errors: float) -> Knee:
    """The knee among rates that were given: the highest before the first that breaks."""
    holds = None
    for result in sorted(results, key=lambda one: one.offered):
        reason = breaks(result, slo_ms, most_errors) or next(iter(result.invalid), None)
        if reason is not None:
            return Knee(holds, result.offered, f"at {result.offered:.3g}/s {reason}")
        holds = result.offered
    return Knee(holds, None, "no rate broke: give higher ones, or --find-knee")
