"""Swaps and served models for people who read a terminal."""

from collections.abc import Iterator

from service.origins import Listed, ListedModels
from service.swap_report import Report
from service.swap_state import SwapView


def of(answer: SwapView | ListedModels) -> str:
    if isinstance(answer, ListedModels):
        return "\n".join(map(listed, answer.models))
    return "\n".join(lines(answer))


def begun(swap: SwapView) -> str:
    assert swap.shadow is not None
    plan = swap.shadow
    return (
        f"swap {swap.id} compares {plan.share:.0%} of the requests until {plan.items} items or for "
        f"{plan.seconds:g} s …; plaudit swap URL --cancel ends it"
    )


def lines(swap: SwapView) -> Iterator[str]:
    for one in swap.swaps:
        arrow = "->" if swap.state == "switched" else "stays, not"
        after = one.after or one.checkpoint
        yield f"{one.model}: {one.before} {arrow} {after} in {swap.seconds:.1f} s"
    for name, report in swap.reports.items():
        yield f"{name}:"
        yield from (f"  {line}" for line in reported(report))
    if swap.reason is not None:
        yield f"{swap.state}: {swap.reason}"


def reported(report: Report) -> Iterator[str]:
    failed = ", ".join(f"{count} {kind}" for kind, count in report.failed.items()) or "none"
    yield f"compared {report.compared} items; failed: {failed}; skipped: {report.skipped}"
    yield f"rank correlation     {number(report.rank_correlation)}"
    yield f"within {report.groups} groups: Kendall's tau {number(report.kendall)}"
    share = "-" if report.changed_preferences is None else f"{report.changed_preferences:.1%}"
    yield f"changed preferences  {share} of {report.pairs} pairs"
    yield (
        f"mean                 {number(report.old_mean)} -> {number(report.new_mean)}, "
        f"shift {number(report.mean_shift)}"
    )
    yield (
        f"standard deviation   {number(report.old_std)} -> {number(report.new_std)}, "
        f"ratio {number(report.std_ratio)}"
    )
    yield f"tokens               {report.old_tokens} -> {report.new_tokens}"
    apart = (f"{one.old:.3f} -> {one.new:.3f} ({one.tokens} tokens)" for one in report.largest)
    yield f"furthest apart       {'; '.join(apart) or '-'}"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def listed(one: Listed) -> str:
    parts = f" of {', '.join(one.members)}" if one.members else ""
    where = one.checkpoint or ("" if one.members else "(outside the model root)")
    return f"{one.name}: {one.kind}{parts} {where} {one.revision}, {one.state} since {one.since}"
