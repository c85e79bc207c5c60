"""The drawings of the report: figures in, inline SVG elements in the page's colours out."""

import io
import re
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.evaluate.by_length import ByLength
from training.evaluate.disagreement import Disagreement
from training.evaluate.figures import Figures, Row
from training.evaluate.reliability import Reliability

# Matplotlib draws in these colours, the page replaces them by its own, which follow its scheme.
INK, CHOSEN, REJECTED = "#010101", "#020202", "#030303"
PAGE_COLOURS = {INK: "currentColor", CHOSEN: "var(--chosen)", REJECTED: "var(--rejected)"}
DRAWING: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "plaudit",
    "font.family": "sans-serif",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
PAIRS = "pairs"
# Room for labels, as shares of a drawing. Fitting it anew each time would double the time to draw.
MARGINS = {"left": 0.23, "right": 0.97, "bottom": 0.25, "top": 0.95}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def score_histogram(row: Row, found: Figures, label: str) -> Markup:
    """Chosen filled, rejected outlined, so that the two differ without colour too."""
    figure, axes = canvas(row.unit, PAIRS)
    axes.stairs(found.chosen, row.score_edges, fill=True, color=CHOSEN, alpha=0.55)
    axes.stairs(found.rejected, row.score_edges, color=REJECTED, linewidth=1.4)
    return svg(figure, label)


def margin_histogram(row: Row, found: Figures, label: str) -> Markup:
    """Margins right of zero, where the pair is right, filled; left of it outlined."""
    figure, axes = canvas(f"margin, {row.unit}", PAIRS)
    middle = len(found.margins) // 2
    wrong, edges = found.margins[:middle], row.margin_edges
    axes.stairs(found.margins[middle:], edges[middle:], fill=True, color=CHOSEN, alpha=0.55)
    axes.stairs(wrong, edges[: middle + 1], color=REJECTED, linewidth=1.4)
    axes.axvline(0, color=INK, linewidth=0.6)
    return svg(figure, label)


def reliability_diagram(found: Reliability, label: str) -> Markup:
    """Accuracy over confidence; the area of a point is its share of the pairs."""
    figure, axes = canvas("confidence", "accuracy")
    total = sum(one.pairs for one in found.bins)
    confidence = [one.confidence for one in found.bins]
    accuracy = [one.accuracy for one in found.bins]
    axes.plot([0.5, 1], [0.5, 1], color=INK, linewidth=0.6)
    axes.plot(confidence, accuracy, color=CHOSEN, linewidth=1)
    axes.scatter(confidence, accuracy, [4 + 80 * b.pairs / total for b in found.bins], color=CHOSEN)
    axes.set(xlim=(0.49, 1.01), ylim=(-0.02, 1.02))
    return svg(figure, label)


def length_curve(row: Row, found: ByLength, label: str) -> Markup:
    """The median score of responses of like length, and the middle half of them."""
    figure, axes = canvas("characters", row.unit)
    axes.fill_between(found.length, found.low, found.high, color=CHOSEN, alpha=0.2, linewidth=0)
    axes.plot(found.length, found.median, color=CHOSEN, marker="o", markersize=3)
    return svg(figure, label)


def disagreement_curve(found: Disagreement, label: str) -> Markup:
    figure, axes = canvas("disagreement", "accuracy")
    levels = found.levels
    axes.plot(
        [one.disagreement for one in levels], [one.accuracy for one in levels],
        color=CHOSEN, marker="o", markersize=4,
    )  # fmt: skip
    axes.set(ylim=(-0.02, 1.02))
    return svg(figure, label)


def canvas(label: str, vertical: str) -> tuple[Figure, Axes]:
    with rc_context(DRAWING):
        figure = Figure(figsize=(3.2, 1.9))
        axes = figure.subplots(gridspec_kw=MARGINS)
        axes.set_xlabel(label)
        axes.set_ylabel(vertical)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=vertical == PAIRS))
    return figure, axes


def svg(figure: Figure, label: str) -> Markup:
    """The drawing as an inline element in the page's colours, without names that would clash."""
    buffer = io.StringIO()
    with rc_context(DRAWING):
        figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    text = buffer.getvalue()
    element = re.sub(r' id="[A-Za-z.]+_\d+"', "", text[text.index("<svg") :])
    for colour, replacement in PAGE_COLOURS.items():
        element = element.replace(colour, replacement)
    return Markup(element.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1))
