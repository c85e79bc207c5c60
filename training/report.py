"""An evaluation as a page and as a table: numbers in, text out.

The page makes no request: styles and drawings are inside, and its policy forbids the rest.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training import report_drawings
from training.evaluate.accuracy import Estimate
from training.evaluate.figures import Evaluation, Figures, Row
from training.evaluate.mistakes import Shown

NOTE = "Accuracy [95 % interval]; † not shown to beat length-only."
TEMPLATE = "report.html.jinja"
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
    mark = " †" if row.kind != "baseline" and found.difference.low <= 0 else ""
    return f"{found.accuracy:.3f}{mark}"


def page(evaluation: Evaluation, shown: Shown) -> str:
    """The whole report as one HTML document, with the texts of the pairs in ``shown``."""
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
        draw=report_drawings,
        shown=shown,
    )


def signed(found: Estimate) -> str:
    return f"{found.value:+.3f}"
