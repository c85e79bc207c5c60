"""Whether a comparison shows what was required of a swap."""

import math
from collections.abc import Iterator

from service.swap_report import Report
from service.swap_request import Limits


def unmet(limits: Limits, fewest: int, report: Report) -> list[str]:
    """What speaks against the swap, in words; nothing where all limits are kept."""
    return [*_counts(limits, fewest, report), *_at_least(limits, report), *_at_most(limits, report)]


def _counts(limits: Limits, fewest: int, report: Report) -> Iterator[str]:
    failed = sum(report.failed.values())
    tried = report.compared + failed
    if tried < fewest:
        yield f"{tried} items were compared, {fewest} are required"
    if failed and failed / tried > limits.failed:
        yield (
            f"the new checkpoint could not score {failed} of {tried} items "
            f"({', '.join(sorted(report.failed))}), and a share of {limits.failed:g} may fail"
        )


def _at_least(limits: Limits, report: Report) -> Iterator[str]:
    for name, least, found in (
        ("rank_correlation", limits.rank_correlation, report.rank_correlation),
        ("kendall", limits.kendall, report.kendall),
    ):
        if least is not None and (found is None or found < least):
            yield f"{name} is {_said(found)}, at least {least:g} is required"


def _at_most(limits: Limits, report: Report) -> Iterator[str]:
    shift = None if report.mean_shift is None else abs(report.mean_shift)
    ratio = report.std_ratio
    factor = math.inf if ratio == 0 else ratio and max(ratio, 1 / ratio)
    for name, most, found in (
        ("changed_preferences", limits.changed_preferences, report.changed_preferences),
        ("mean_shift", limits.mean_shift, shift),
        ("std_ratio, up or down,", limits.std_ratio, factor),
    ):
        if most is not None and (found is None or found > most):
            yield f"{name} is {_said(found)}, at most {most:g} is allowed"


def _said(found: float | None) -> str:
    return "not to be told of so few items" if found is None else f"{found:.4g}"
