"""Preference strength in one drawing."""

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.drawing import svg
from training.noise.figures import StrengthFigures


def draw(found: StrengthFigures) -> str:
    """An SVG: histogram of the mean, deviation over mean, and agreement by decile if known."""
    return svg(partial(_panels, found), width=6 if found.wrong_by_decile is None else 9)


def _panels(found: StrengthFigures, figure: Figure) -> None:
    axes = figure.subplots(1, 2 if found.wrong_by_decile is None else 3)
    _histogram(axes[0], found)
    axes[1].plot(found.means, found.deviations, marker="o", markersize=3)
    axes[1].set(xlabel="mean_diff of a group", ylabel="mean std_diff", ylim=(0, None))
    if found.wrong_by_decile is not None:
        right = [1 - share for share in found.wrong_by_decile]
        axes[2].bar(range(1, len(right) + 1), right)
        axes[2].set(xlabel="decile of mean_diff", ylabel="share of right labels", ylim=(0, 1))


def _histogram(axis: Axes, found: StrengthFigures) -> None:
    axis.stairs(found.counts, found.edges, fill=True, alpha=0.4, label="all")
    if found.wrong_counts is not None:
        axis.stairs(found.wrong_counts, found.edges, fill=True, alpha=0.6, label="wrong label")
        axis.legend(frameon=False)
    axis.axvline(0, color="grey", linewidth=0.7)
    axis.set(xlabel="mean_diff", ylabel="pairs")
