"""What ``plaudit score`` shows of the separation of chosen and rejected rewards."""

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.drawing import svg
from training.score.separation import Separation

# By source, by scores file.
Found = dict[str, dict[str, Separation]]


def draw(found: Found) -> str:
    """An SVG: a row of panels for each source, one panel for each scores file."""
    columns = max(len(row) for row in found.values())
    return svg(partial(_panels, found), width=3.2 * columns, height=2.2 * len(found))


def _panels(found: Found, figure: Figure) -> None:
    grid = figure.subplots(len(found), squeeze=False, ncols=max(map(len, found.values())))
    for (source, row), axes in zip(found.items(), grid, strict=True):
        for (label, one), axis in zip(row.items(), axes, strict=True):
            _panel(axis, one, f"{source}{label and ', '}{label}")


def _panel(axis: Axes, found: Separation, title: str) -> None:
    axis.stairs(found.chosen, found.edges, fill=True, alpha=0.5, label="chosen")
    axis.stairs(found.rejected, found.edges, linewidth=1.4, label="rejected")
    axis.set(xlabel="reward", ylabel="pairs")
    axis.set_title(f"{title}: KS {found.ks:.2f}", fontsize=8)
    axis.legend(frameon=False)


def markdown(found: Found) -> str:
    """One line a source and scores file."""
    lines = ["| source | | pairs | KS | accuracy |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {source} | {label} | {one.pairs} | {one.ks:.3f} | {one.accuracy:.3f} |"
        for source, row in found.items()
        for label, one in row.items()
    ]
    return "\n".join(lines) + "\n"
