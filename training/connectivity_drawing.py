"""Lines between members in one panel: accuracy less the straight line between the two."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.connectivity import Line, Scan
from training.drawing import svg

FIGURES = "connectivity.json"
DRAWING = "connectivity.svg"
# With more lines a legend hides them; their names stand in the figures.
NAMED = 6


def write(scan: Scan, out: Path) -> None:
    """The figures of a scan and their drawing, into a directory that may hold nothing else."""
    content = msgspec.json.format(msgspec.json.encode(scan), indent=1)
    (out / FIGURES).write_bytes(content + b"\n")
    (out / DRAWING).write_text(draw(scan.lines, scan.allowed))


def draw(lines: Sequence[Line], allowed: float) -> str:
    def panel(figure: Figure) -> None:
        axes = figure.subplots()
        frame(axes, allowed)
        for number, line in enumerate(lines):
            plot(axes, line, f"C{number % 10}", f"{line.first} to {line.second}")
        if len(lines) <= NAMED:
            # Names may be long paths, for which the panel is not to shrink.
            axes.legend(frameon=False).set_in_layout(False)

    return svg(panel, width=4.6, height=3.2)


def frame(axes: Axes, allowed: float) -> None:
    """Zero is the straight line; dotted what is still allowed below it."""
    axes.axhline(0, color="grey", linewidth=0.7)
    axes.axhline(-allowed, color="grey", linewidth=0.7, linestyle=":")
    axes.set(xlabel="share of the second member", ylabel="accuracy less the straight line")


def plot(axes: Axes, line: Line, colour: str, label: str | None) -> None:
    """The places of a line with their intervals."""
    above = np.array([-one.value for one in line.below])
    reach = np.array([[one.high - one.value, one.value - one.low] for one in line.below]).T
    axes.errorbar(
        line.places, above, yerr=reach, fmt="o-", color=colour, ecolor=(colour, 0.35),
        markersize=3, linewidth=1, label=label,
    )  # fmt: skip
