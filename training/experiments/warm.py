"""Does averaging members' weights remember fewer wrong labels than averaging their predictions?

After WARM (arXiv:2401.12187): 25 % of the training labels of RMB are flipped; six members of one
pre-trained start differ in order, learning rate and dropout. Beside single members, the mean of
predictions (ENS) and the mean of weights (WARM) stands the control: each member stopped at the
epoch that is best on a validation share of its own.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.drawing import svg
from training.experiments import diversity
from training.experiments.datasets import read, rmb_pairs
from training.experiments.members import RECIPES, Size
from training.experiments.memorisation import (
    CLEAN,
    CORRUPTED,
    ENS,
    HELD_OUT,
    LENGTH_ONLY,
    NOISE,
    OTHER_CATEGORIES,
    SINGLE,
    START,
    STOPPED,
    WARM,
    Arm,
    Data,
    NoiseDraw,
    noise_draw,
)
from training.experiments.result import Result, table

SHOWN = (1, 2, 5)  # epochs, in the tables; the claim on held-out pairs is after the last
RATES = (1 / 3, 3.0)  # times the members' rates, once more


FULL = Size(share=1.0, seeds=3, members=6, epochs=5)
QUICK = Size(share=0.3, seeds=1, members=3, epochs=2)


def run(data: Path, quick: bool) -> Result:
    """Three draws of the noise; ``quick``: one, on three tenths of the prompts, three members."""
    size = QUICK if quick else FULL
    known = load(data, size.share)
    recipes = RECIPES[: size.members]
    found = [noise_draw(known, recipes, size.epochs, seed) for seed in range(size.seeds)]
    columns = {name: len(places) for name, places in found[0].columns.items()}
    tables = [_accuracies(found, size), _differences(found, size)]
    failures = [
        f"seed {seed}: {name}"
        for seed, one in enumerate(found)
        for name, held in _claims(one, size, quick).items()
        if not held
    ]
    if not quick:
        rates = {times: _at_other_rates(known, size, times) for times in RATES}
        apart = diversity.diversity(load(data, QUICK.share), seed=0)
        tables += [_rates({1.0: found[0], **rates}, size), diversity.rows(apart)]
        failures += diversity.failures(apart)
    return Result(
        tables=tables,
        figure=_draw(found, size),
        figures={
            "pairs": {"start": len(known.start), "validation": len(known.validation)} | columns,
            "noise": NOISE,
            "size": vars(size),
            "seeds": [_summary(one, size) for one in found],
        },
        failures=failures,
    )


def load(data: Path, share: float) -> Data:
    return Data.of(rmb_pairs(data, share), read(data, "hh_helpful", "plaudit", share))


def shown(size: Size) -> list[int]:
    return [epoch for epoch in SHOWN if epoch <= size.epochs]


def _at_other_rates(data: Data, size: Size, times: float) -> NoiseDraw:
    recipes = [one._replace(lr=times * one.lr) for one in RECIPES[: size.members]]
    return noise_draw(data, recipes, size.epochs, seed=0)


def _claims(one: NoiseDraw, size: Size, quick: bool) -> dict[str, bool]:
    """What is to be shown of each draw of the noise; ``quick``: of training pairs at the end."""
    count, last = size.members, size.epochs

    def less(epoch: int, column: str) -> float:
        return one.less((WARM, count), (ENS, count), epoch, column).value

    return {
        f"after epoch {epoch}: {claim}": held
        for epoch in (shown(size)[-1:] if quick else shown(size))
        for claim, held in {
            "WARM remembers fewer corrupted labels than ENS": less(epoch, CORRUPTED) < 0,
            "WARM is not above ENS on clean training pairs": less(epoch, CLEAN) <= 0,
        }.items()
    } | {f"after epoch {last}: WARM is not below ENS held out": quick or less(last, HELD_OUT) >= 0}


def _summary(one: NoiseDraw, size: Size) -> dict[str, object]:
    epochs = range(1, size.epochs + 1)
    return {
        "stopped_after": one.stopped_after,
        "beside": {
            name: {column: one.accuracy(name, 0, column) for column in one.columns}
            for name in one.beside
        },
        "accuracy": {
            f"{kind} {count}": {
                column: [one.accuracy((kind, count), epoch, column) for epoch in epochs]
                for column in one.columns
            }
            for kind, count in one.right
        },
    }


def _mean(found: Sequence[NoiseDraw], arm: Arm | str, epoch: int, column: str) -> float:
    return float(np.mean([one.accuracy(arm, epoch, column) for one in found]))


def _accuracies(found: Sequence[NoiseDraw], size: Size) -> str:
    """Means over the draws of the noise."""
    columns = list(found[0].columns)

    def row(epochs: str, name: str, arm: Arm | str, epoch: int) -> list[str]:
        means = [f"{_mean(found, arm, epoch, column):.3f}" for column in columns]
        return [epochs, name, *means]

    arms = {"single": SINGLE, ENS: (ENS, size.members), WARM: (WARM, size.members)}
    rows = [
        row(str(epoch), name, arm, epoch) for epoch in shown(size) for name, arm in arms.items()
    ]
    after = [epoch for one in found for epoch in one.stopped_after]
    rows.append(row(f"{min(after)} to {max(after)}", STOPPED, STOPPED, 0))
    rows += [row("", name, name, 0) for name in (START, LENGTH_ONLY)]
    return table(["epochs", "reward", *columns], rows)


def _differences(found: Sequence[NoiseDraw], size: Size) -> str:
    """WARM less ENS and less the stopped members, by draw of the noise."""
    warm, ens = (WARM, size.members), (ENS, size.members)
    columns = [(ens, CORRUPTED), (ens, CLEAN), (ens, HELD_OUT), (ens, OTHER_CATEGORIES)]
    rows = [
        [
            str(epoch),
            str(seed),
            *(f"{one.less(warm, other, epoch, column):+.3f}" for other, column in columns),
            f"{one.less(warm, STOPPED, epoch, HELD_OUT):+.3f}",
        ]
        for epoch in shown(size)
        for seed, one in enumerate(found)
    ]
    header = [f"less ENS: {columns[0][1]}", *(column for _, column in columns[1:])]
    return table(["epochs", "seed", *header, "less stopped early: held out"], rows)


def _rates(found: dict[float, NoiseDraw], size: Size) -> str:
    """One draw of the noise, by how many times the members' rates they learn."""
    warm, ens = (WARM, size.members), (ENS, size.members)
    rows = [
        [
            f"{times:.2g}",
            str(epoch),
            *(
                f"{one.accuracy(arm, epoch, column):.3f}"
                for column in (CORRUPTED, CLEAN, HELD_OUT)
                for arm in (SINGLE, ens, warm)
            ),
        ]
        for times, one in sorted(found.items())
        for epoch in shown(size)
    ]
    header = [
        f"{column}: {name}" if name == "single" else name
        for column in (CORRUPTED, CLEAN, HELD_OUT)
        for name in ("single", ENS, WARM)
    ]
    return table(["rates, times", "epochs", *header], rows)


def _draw(found: Sequence[NoiseDraw], size: Size) -> str:
    def panels(figure: Figure) -> None:
        memory, held_out, count = figure.subplots(1, 3)
        _over_epochs(memory, found, size, CORRUPTED)
        _over_epochs(held_out, found, size, HELD_OUT)
        _over_members(count, found, size)
        memory.set(ylabel="corrupted training labels remembered")
        held_out.set(ylabel="accuracy, held out")
        memory.legend(frameon=False)

    return svg(panels, width=9)


def _over_epochs(axis: Axes, found: Sequence[NoiseDraw], size: Size, column: str) -> None:
    """Means over draws of the noise, and from the least to the largest."""
    epochs = range(1, size.epochs + 1)
    arms = {"single": SINGLE, ENS: (ENS, size.members), WARM: (WARM, size.members)}
    for number, (name, arm) in enumerate(arms.items()):
        values = [[one.accuracy(arm, epoch, column) for epoch in epochs] for one in found]
        axis.plot(epochs, np.mean(values, axis=0), "o-", color=f"C{number}", label=name)
        low, high = np.min(values, axis=0), np.max(values, axis=0)
        axis.fill_between(epochs, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
    stopped = _mean(found, STOPPED, 0, column)
    axis.axhline(stopped, color="grey", linestyle="--", label=STOPPED)
    axis.set(xlabel="epochs")


def _over_members(axis: Axes, found: Sequence[NoiseDraw], size: Size) -> None:
    counts = range(1, size.members + 1)
    for epoch, style in ((1, ":"), (size.epochs, "-")):
        for kind, colour in ((ENS, "C1"), (WARM, "C2")):
            values = [_mean(found, (kind, count), epoch, HELD_OUT) for count in counts]
            label = f"{kind}, epoch {epoch}"
            axis.plot(counts, values, style, marker=".", color=colour, label=label)
    axis.set(xlabel="members M", ylabel="accuracy, held out")
    axis.legend(frameon=False)
