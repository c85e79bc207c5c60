"""The figures a run has logged, as a file and as a drawing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from plaudit.whole_file import write_whole
from training.drawing import svg

Entry = Mapping[str, Any]


def write(out: Path, history: Sequence[Entry], shown: Mapping[str, str]) -> None:
    """``curves.json``, every entry that was logged, and ``curves.svg``, of each figure in ``shown``
    (its name in the log, and a title) a panel with its value while training and in evaluation."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "curves.json", json.dumps(list(history), indent=1).encode())
    write_whole(out / "curves.svg", draw(history, shown).encode())


def series(history: Sequence[Entry], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one figure, where it was logged."""
    found = [(one["step"], float(one[name])) for one in history if one.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]


def draw(history: Sequence[Entry], shown: Mapping[str, str]) -> str:
    def panels(figure: Figure) -> None:
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for axis, (name, title) in zip(axes, shown.items(), strict=True):
            axis.plot(*series(history, name), linewidth=1, label="training")
            held_out = series(history, f"eval_{name}")
            if held_out[0]:
                axis.plot(*held_out, "o-", linewidth=1, markersize=3, label="held out")
                axis.legend(frameon=False)
            axis.set(title=title, xlabel="step")

    return svg(panels, width=3 * len(shown))
