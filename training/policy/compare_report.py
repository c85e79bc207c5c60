"""What a comparison of two policies shows: a table, and the distributions of their rewards."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.drawing import svg
from training.policy import versus
from training.policy.candidates import Candidates
from training.policy.versus import Picked, Versus

BINS = 24
RAW, CALIBRATED = "reward", "reward less what length explains"


def write(out: Path, found: dict[str, list[Candidates]], samples: Sequence[int]) -> None:
    """``comparison.json``, ``.md`` and ``.svg``; prints the table."""
    picked = {
        RAW: versus.picked(found, samples),
        CALIBRATED: versus.picked(versus.without_length(found), samples),
    }
    figures = {name: versus.figures(one) for name, one in picked.items()}
    encoded = msgspec.json.encode(figures)
    (out / "comparison.json").write_bytes(msgspec.json.format(encoded, indent=1))
    (out / "comparison.md").write_text(text := table(figures))
    (out / "comparison.svg").write_text(draw(picked))
    print(text, end="")


def table(found: dict[str, Versus]) -> str:
    """Arms with both rewards and their length, then who wins against whom."""
    raw, calibrated = found[RAW], found[CALIBRATED]
    lines = [f"| {raw.prompts} prompts | {RAW} | {CALIBRATED} | characters |", "| --- " * 4 + "|"]
    lines += [
        f"| {name} | {arm.reward:+.3f} | {calibrated.arms[name].reward:+.3f} | "
        f"{arm.characters:.0f} |"
        for name, arm in raw.arms.items()
    ]
    lines += ["", "| wins | against | share | less what length explains |", "| --- " * 4 + "|"]
    lines += [
        f"| {one.first} | {one.second} | {one.rate:.3f} | {other.rate:.3f} |"
        for one, other in zip(raw.wins, calibrated.wins, strict=True)
    ]
    return "\n".join(lines) + "\n"


def draw(picked: dict[str, Picked]) -> str:
    """A panel for either reward, a line for each arm."""

    def panels(figure: Figure) -> None:
        axes = figure.subplots(1, len(picked), sharey=True)
        for axis, (name, one) in zip(axes, picked.items(), strict=True):
            distributions(axis, one)
            axis.set(xlabel=name)
        axes[0].set(ylabel="prompts")
        axes[0].legend(frameon=False, fontsize=6)

    return svg(panels, width=8)


def distributions(axis: Axes, found: Picked) -> None:
    edges = np.histogram_bin_edges(found.rewards, BINS)
    policies = [*dict.fromkeys(arm.policy for arm in found.arms)]
    for arm, values in zip(found.arms, found.rewards.T, strict=True):
        axis.stairs(
            np.histogram(values, edges)[0],
            edges,
            color=f"C{policies.index(arm.policy)}",
            linestyle="-" if arm.samples == 1 else "--",
            label=arm.name,
        )
