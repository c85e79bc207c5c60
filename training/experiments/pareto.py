"""Two objectives against each other: a curve for a sweep over weights, a point for a model."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.drawing import svg
from training.evaluate.accuracy import Estimate


def draw(arms: Mapping[str, Sequence[Sequence[Estimate]]], weights: Sequence[float]) -> str:
    """By arm the helpful and the harmless accuracies, of every weight or of a single model."""

    def panel(figure: Figure) -> None:
        axes = figure.subplots()
        for number, (arm, (helpful, harmless)) in enumerate(arms.items()):
            _plot(axes, arm, helpful, harmless, f"C{number}")
            if number == 0:
                _name_weights(axes, helpful, harmless, weights)
        axes.set(xlabel="accuracy on harmless pairs", ylabel="accuracy on helpful pairs")
        axes.legend(frameon=False)

    return svg(panel, width=4.6, height=3.6)


def _plot(
    axes: Axes, arm: str, helpful: Sequence[Estimate], harmless: Sequence[Estimate], colour: str
) -> None:
    axes.errorbar(
        [one.value for one in harmless],
        [one.value for one in helpful],
        xerr=_reach(harmless),
        yerr=_reach(helpful),
        fmt="o-" if len(helpful) > 1 else "s",
        color=colour,
        ecolor=(colour, 0.35),
        markersize=4,
        linewidth=1,
        label=arm,
    )


def _reach(found: Sequence[Estimate]) -> np.ndarray:
    """How far the intervals reach below and above."""
    return np.array([[one.value - one.low, one.high - one.value] for one in found]).T


def _name_weights(
    axes: Axes, helpful: Sequence[Estimate], harmless: Sequence[Estimate], weights: Sequence[float]
) -> None:
    for weight, x, y in zip(weights, harmless, helpful, strict=True):
        axes.annotate(
            f"w = {weight:g}", (x.value, y.value), (5, 5), textcoords="offset points", fontsize=7
        )
