"""The figures of an evaluation: what ``evaluation.json`` holds.

Letters: P pairs of a source, R rows of the report.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from training.data.shapes import Pair, Shape
from training.evaluate.accuracy import (
    Array,
    Estimate,
    Label,
    by_label,
    estimates,
    is_right,
    less,
    resampled,
)
from training.evaluate.baselines import LENGTH_ONLY, length_correlation, length_only
from training.evaluate.benchmarks import Table, figures_of
from training.evaluate.by_length import ByLength, by_length, length_ranges
from training.evaluate.candidates import ENS, OBJECTIVES, Candidates
from training.evaluate.disagreement import Disagreement, disagreement
from training.evaluate.evaluation import Scores
from training.evaluate.mistakes import Mistake, describe
from training.evaluate.paired import Paired, compare
from training.evaluate.reliability import Reliability, reliability
from training.measure import Measured

BINS = 30
BASELINE = "baseline"
Unit = Literal["score", "reward", "characters"]
KIND_ORDER = ("single", "plain", ENS, OBJECTIVES, "warm", BASELINE)


class Row(Struct, frozen=True):
    """One line of the report, with the bin edges of its histograms, the same for every source.

    ``kind`` is the checkpoint's (single, warm, plain), ``ens``, ``objectives`` or ``baseline``;
    ``unit`` what is judged: raw scores, rewards, or characters.
    """

    name: str
    kind: str
    unit: Unit
    score_edges: list[float]
    margin_edges: list[float]


class Figures(Struct, frozen=True):
    """One row on one source. ``difference`` is the accuracy less that of length-only, paired;
    ``chosen``, ``rejected`` and ``margins`` are histogram counts.

    ``reliability`` is None where the scores are not raw; the baseline has no ``by_length`` and no
    ``mistakes``.
    """

    accuracy: Estimate
    difference: Estimate
    ties: int
    spearman_length: float | None
    chosen: list[int]
    rejected: list[int]
    margins: list[int]
    reliability: Reliability | None
    by_length: ByLength | None
    mistakes: list[Mistake]


class Group(Struct, frozen=True):
    """Accuracy by row on some of a source's pairs: those of a category, or of like length."""

    pairs: int
    prompts: int
    accuracy: dict[str, Estimate]


class SourceResult(Struct, frozen=True):
    """One source: its figures by row, its categories by name, its pairs by the characters of their
    longer response (``81 to 160``), the figures of its shape, every two rows compared, and the
    disagreement of each ensemble."""

    shape: Shape
    pairs: int
    prompts: int
    figures: dict[str, Figures]
    categories: dict[str, Group]
    lengths: dict[str, Group]
    benchmark: Table
    paired: list[Paired]
    disagreement: dict[str, Disagreement]


class Evaluation(Struct, frozen=True):
    """Everything that is reported. ``provenance`` says what was scored, on what and how."""

    rows: list[Row]
    sources: dict[str, SourceResult]
    provenance: dict[str, Any]


def prompt_digest(pair: Pair) -> str:
    """SHA-256 of the first user turn, stripped as for the splits: the same prompt, the same
    digest."""
    return hashlib.sha256(pair.first_turn.strip().encode()).hexdigest()


def make_rows(found: Candidates, scores: Scores) -> list[Row]:
    """Members, then ensembles, bundles, averages and the baseline."""
    kinds: dict[str, str] = {name: one.manifest.kind for name, one in found.checkpoints.items()}
    kinds |= {one.name: ENS for one in found.ensembles} | {LENGTH_ONLY: BASELINE}
    kinds |= {one.name: OBJECTIVES for one in found.bundles}
    units: dict[str, Unit] = {LENGTH_ONLY: "characters"}
    units |= {one.name: "reward" for one in found.combined}
    units |= {
        name: "reward" if one.manifest.calibration.reads_length else "score"
        for name, one in found.checkpoints.items()
    }
    names = sorted(kinds, key=lambda name: KIND_ORDER.index(kinds[name]))
    return [
        make_row(name, kinds[name], units[name], [measured[name] for measured in scores.values()])
        for name in names
    ]


def make_row(name: str, kind: str, unit: Unit, measured: Iterable[Measured]) -> Row:
    """A row whose bins cover its scores on all sources; the margins' bins part at zero."""
    found = list(measured)
    scores = np.concatenate([side for m in found for side in (m.chosen, m.rejected)])
    farthest = max(float(np.abs(m.chosen - m.rejected).max()) for m in found) or 1.0
    positive = np.linspace(0, farthest, BINS // 2 + 1)
    return Row(
        name,
        kind,
        unit,
        np.histogram_bin_edges(scores.astype(np.float64), BINS).tolist(),
        [*(-positive[:0:-1]).tolist(), *positive.tolist()],
    )


def result(
    shape: Shape,
    pairs: Sequence[Pair],
    measured: Mapping[str, Measured],
    rows: Sequence[Row],
    member_margins: Mapping[str, Array],
) -> SourceResult:
    """The figures of every row on the P pairs of one source, with the margins (M, P) of each
    ensemble's members."""
    names = [row.name for row in rows]
    digests = [prompt_digest(pair) for pair in pairs]
    right = np.stack([is_right(measured[n].chosen, measured[n].rejected) for n in names], axis=1)
    values, draws = right.mean(axis=0), resampled(right, digests)
    against_length = less(names.index(LENGTH_ONLY), values, draws)
    both = zip(estimates(values, draws), against_length, strict=True)
    return SourceResult(
        shape=shape,
        pairs=len(pairs),
        prompts=len(set(digests)),
        figures={
            row.name: row_figures(row, measured[row.name], pairs, found)
            for row, found in zip(rows, both, strict=True)
        },
        categories=groups([pair.category for pair in pairs], digests, right, names),
        lengths={
            f"{least:,} to {most:,}": group
            for (least, most), group in groups(length_ranges(pairs), digests, right, names).items()
        },
        benchmark=figures_of(shape, pairs, digests, {name: measured[name] for name in names}),
        paired=compare(right, draws, names),
        disagreement={
            name: disagreement(margins, right[:, names.index(name)])
            for name, margins in member_margins.items()
        },
    )


def row_figures(
    row: Row, measured: Measured, pairs: Sequence[Pair], estimates: tuple[Estimate, Estimate]
) -> Figures:
    margins = measured.chosen - measured.rejected
    accuracy, difference = estimates
    is_model = row.kind != BASELINE
    return Figures(
        accuracy=accuracy,
        difference=difference,
        ties=int((margins == 0).sum()),
        spearman_length=length_correlation(measured, pairs),
        chosen=counts(measured.chosen, row.score_edges),
        rejected=counts(measured.rejected, row.score_edges),
        # A bin holds its lower edge, mirrored its upper: a tie is wrong, so it is left of zero.
        margins=counts(-margins, row.margin_edges)[::-1],
        reliability=reliability(margins) if row.unit == "score" else None,
        by_length=by_length(measured, length_only(pairs)) if is_model else None,
        mistakes=describe(pairs, measured) if is_model else [],
    )


def counts(values: Array, edges: Sequence[float]) -> list[int]:
    found: list[int] = np.histogram(values.astype(np.float64), edges)[0].tolist()
    return found


def groups(
    labels: Sequence[Label], digests: Sequence[str], right: Array, names: Sequence[str]
) -> dict[Label, Group]:
    """The pairs of ``right`` (P, R) by label, in the labels' order."""
    prompts: dict[Label, set[str]] = {label: set() for label in labels}
    for label, digest in zip(labels, digests, strict=True):
        prompts[label].add(digest)
    return {
        label: Group(
            labels.count(label), len(prompts[label]), dict(zip(names, estimates, strict=True))
        )
        for label, estimates in by_label(right, digests, labels).items()
    }
