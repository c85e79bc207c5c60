"""An evaluation as a page and as a table: numbers in, text out.

The page makes no request: styles and drawings are inside, and its policy forbids the rest.
"""

import io
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.evaluate.accuracy import Estimate
from training.evaluate.figures import Evaluation, Figures, Row

NOTE = "Accuracy [95 % interval]; † not shown to beat length-only."
TEMPLATE = "report.html.jinja"
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
ABOUT = {
    "rm_bench": "RM-Bench (arXiv:2410.16184). Easy: the chosen response has the richer style; "
    "hard: the rejected one has; normal: the same style; average: all nine pairs of a row, over "
    "rows, not over domains.",
    "lists": "Best of N: how often the response that scores highest is one that no other of its "
    "list beats. Responses that tie for the top share the credit.",
    "rewardbench": "RewardBench (arXiv:2403.13787): accuracy over the pairs of a section; a pair "
    "of math-prm counts 984 / 447 times. Mean of the sections that are there.",
    "rewardbench2": "RewardBench 2 (arXiv:2506.01937): how often the right one of four scores "
    "highest; responses that tie for the top share the credit. Ties is a score, of right before "
    "wrong and of margins. Mean of the subsets that are there.",
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def markdown(evaluation: Evaluation) -> str:
    """Accuracies, models x sources, as a Markdown table that also reads well in a terminal."""
    header = ["model", *(f"{n} ({s.pairs} pairs)" for n, s in evaluation.sources.items())]
    lines = [header] + [
        [row.name, *(cell(s.figures[row.name], row) for s in evaluation.sources.values())]
        for row in evaluation.rows
    ]
    escaped = [[text.replace("|", "\\|") for text in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    escaped.insert(1, ["-" * width for width in widths])
    table = "".join("| " + " | ".join(map(str.ljust, line, widths)) + " |\n" for line in escaped)
    return f"{table}\n{NOTE}\n"


def cell(found: Figures, row: Row) -> str:
    accuracy = found.accuracy
    mark = " †" if row.kind != "baseline" and found.difference.low <= 0 else ""
    return f"{accuracy.value:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}]{mark}"


def page(evaluation: Evaluation) -> str:
    """The whole report as one HTML document."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template(TEMPLATE)
    return template.render(
        evaluation=evaluation,
        provenance=evaluation.provenance,
        about=ABOUT,
        signed=signed,
        score_histogram=score_histogram,
        margin_histogram=margin_histogram,
    )


def signed(found: Estimate) -> str:
    return f"{found.value:+.3f}"


def score_histogram(row: Row, found: Figures, label: str) -> Markup:
    """Chosen filled, rejected outlined, so that the two differ without colour too."""
    figure, axes = canvas(unit(row))
    axes.stairs(found.chosen, row.score_edges, fill=True, color=CHOSEN, alpha=0.55)
    axes.stairs(found.rejected, row.score_edges, color=REJECTED, linewidth=1.4)
    return svg(figure, label)


def margin_histogram(row: Row, found: Figures, label: str) -> Markup:
    """Margins right of zero, where the pair is right, filled; left of it outlined."""
    figure, axes = canvas(f"margin, {unit(row)}")
    middle = len(found.margins) // 2
    wrong, edges = found.margins[:middle], row.margin_edges
    axes.stairs(found.margins[middle:], edges[middle:], fill=True, color=CHOSEN, alpha=0.55)
    axes.stairs(wrong, edges[: middle + 1], color=REJECTED, linewidth=1.4)
    axes.axvline(0, color=INK, linewidth=0.6)
    return svg(figure, label)


def unit(row: Row) -> str:
    return {"baseline": "characters", "ens": "reward"}.get(row.kind, "score")


def canvas(label: str) -> tuple[Figure, Axes]:
    with rc_context(DRAWING):
        figure = Figure(figsize=(3.2, 1.9), layout="constrained")
        axes = figure.subplots()
        axes.set_xlabel(label)
        axes.set_ylabel("pairs")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
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
