"""What ``plaudit parity`` found: a row for each way to score, the limits, and the table."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from plaudit.reward_model import Scores

Pairs = list[tuple[int, int]]
DETERMINISTIC = "torch, deterministic"


class Row(msgspec.Struct, frozen=True):
    """One way to score beside the reference, in the units of raw scores.

    A flip is a pair that loses the order it has in the reference, to the other or to a tie; a
    strong pair has a reference margin over the report's. A tie is a pair with equal scores.
    ``neighbours`` is the largest difference of a score between batch compositions and None where
    there is only one.
    """

    name: str
    dtype: str
    largest_difference: float
    flips: int
    strong_flips: int
    ties: int
    neighbours: float | None


class Report(msgspec.Struct, frozen=True):
    """Everything that was compared, under which limits, and what went beyond them."""

    model: str
    revision: str
    device: str
    sequences: int
    pairs: int
    strong_pairs: int
    tolerance: float
    margin: float
    rows: list[Row]
    failures: list[str]


def row(
    name: str, dtype: str, ways: Sequence[Scores], reference: Scores, pairs: Pairs, margin: float
) -> Row:
    """Differences are the largest over all compositions; flips and ties are those when alone."""
    stacked = np.stack(ways)
    expected, found = (margins(scores, pairs) for scores in (reference, ways[0]))
    flipped = (np.sign(expected) != np.sign(found)) & (expected != 0)
    return Row(
        name=name,
        dtype=dtype,
        largest_difference=float(np.abs(stacked - reference).max()),
        flips=int(flipped.sum()),
        strong_flips=int((flipped & (np.abs(expected) > margin)).sum()),
        ties=int((found == 0).sum()),
        neighbours=float(np.ptp(stacked, axis=0).max()) if len(ways) > 1 else None,
    )


def margins(scores: Scores, pairs: Pairs) -> Scores:
    """Of each pair, the first score less the second."""
    left, right = np.array(pairs, int).reshape(-1, 2).T
    found: Scores = scores[left] - scores[right]
    return found


def strong(reference: Scores, pairs: Pairs, margin: float) -> int:
    """How many pairs have an order that must be kept."""
    return int((np.abs(margins(reference, pairs)) > margin).sum())


def failures(rows: Iterable[Row], tolerance: float, margin: float) -> Iterable[str]:
    """What is beyond the limits. Transformers' own rows are there to compare, not to judge.

    ``not … <=`` so that a score that is not a number fails too.
    """
    for one in rows:
        if one.name == "transformers":
            continue
        if one.dtype == "float32" and not one.largest_difference <= tolerance:
            yield (
                f"{one.name} {one.dtype}: a score is off by {one.largest_difference:.3g}, "
                f"the tolerance is {tolerance:g}"
            )
        if one.name == DETERMINISTIC and one.neighbours != 0:
            yield f"{one.name} {one.dtype}: a score changes with its neighbours"
        if not np.isfinite(one.largest_difference):
            yield f"{one.name} {one.dtype}: a score is not finite"
        if one.strong_flips:
            yield (
                f"{one.name} {one.dtype}: {one.strong_flips} pairs with a margin over {margin:g} "
                "lose their order"
            )


def table(report: Report) -> str:
    """The rows as Markdown, below what was scored."""
    lines = [
        f"{report.model} ({report.revision[:19]}) on {report.device}: {report.sequences} "
        f"sequences against Transformers in fp32, one sequence at a time; {report.pairs} pairs, of "
        f"which {report.strong_pairs} are further apart than {report.margin:g}",
        "",
        f"| scored by | dtype | largest difference | between batches | flips | flips over "
        f"{report.margin:g} | ties |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [cells(one) for one in report.rows]
    return "\n".join(lines)


def cells(one: Row) -> str:
    between = "" if one.neighbours is None else f"{one.neighbours:.2g}"
    values: list[Any] = [
        one.name, one.dtype, f"{one.largest_difference:.2g}", between,
        one.flips, one.strong_flips, one.ties,
    ]  # fmt: skip
    return f"| {' | '.join(map(str, values))} |"
