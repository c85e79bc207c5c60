"""Does one element of a batch for all comparisons of a prompt overfit less than shuffled pairs?

After InstructGPT (arXiv:2203.02155 section 3.5), which saw shuffled comparisons overfit within one
epoch. Both forms see every comparison once an epoch, in steps of as many comparisons.
"""

import io
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from training.data.shapes import Pair
from training.data.splits import Split
from training.evaluate.accuracy import Estimate, estimates, resampled
from training.experiments import bag_of_words
from training.experiments.bag_of_words import Labels, Texts
from training.experiments.datasets import read
from training.experiments.result import Result, interval, table
from training.measure import Array

SETS = {"QA-feedback": "qa_feedback_lists", "RMB lists": "rmb_lists"}
SPLIT = Split(validation=0, test=0.3)
EPOCHS = 6
SHUFFLED, KWISE = "shuffled pairs", "K-wise"


def run(data: Path, quick: bool) -> Result:
    """Five seeds of six epochs; ``quick``: two of three, on QA-feedback."""
    seeds, epochs = (2, 3) if quick else (5, EPOCHS)
    names = list(SETS)[:1] if quick else list(SETS)
    found = {name: _Comparison(read(data, SETS[name], "lists"), seeds, epochs) for name in names}
    return Result(
        title="K-wise batches",
        tables=[_table(found, epochs)],
        figure=_draw(found, epochs),
        figures={name: one.summary() for name, one in found.items()} | {"seeds": seeds},
        failures=[
            f"{name}: the gap of K-wise batches is smaller after {epochs} epochs"
            for name, one in found.items()
            if one.gap_difference(-1).value >= 0
        ],
    )


class _Comparison:
    """Both forms on one set of lists: how often each pair is right, by epoch, over seeds."""

    def __init__(self, pairs: list[Pair], seeds: int, epochs: int):
        texts, labels = Texts.of(pairs), Labels.given(len(pairs))
        self._prompts = np.array([pair.first_turn for pair in pairs])
        self._train = np.array([SPLIT.side(pair) == "train" for pair in pairs])
        inside = np.flatnonzero(self._train)
        elements = {SHUFFLED: list(inside[:, None]), KWISE: _by_prompt(self._prompts, inside)}
        everything = np.arange(len(pairs))
        # Each (epochs, pairs).
        self.right = {
            form: np.mean(
                [
                    [
                        bag_of_words.margins(model, texts, everything) > 0
                        for model in bag_of_words.train(texts, labels, some, epochs, seed)
                    ]
                    for seed in range(seeds)
                ],
                axis=0,
            )
            for form, some in elements.items()
        }

    def accuracy(self, form: str, epoch: int, train: bool) -> float:
        return float(self.right[form][epoch, self._train == train].mean())

    def gap(self, form: str, epoch: int) -> float:
        """Accuracy on the training pairs less that on the held-out ones."""
        return self.accuracy(form, epoch, True) - self.accuracy(form, epoch, False)

    def gap_difference(self, epoch: int) -> Estimate:
        """The K-wise gap less the shuffled one, paired, resampled over prompts of each side."""
        sides = []
        for side in (self._train, ~self._train):
            right = np.stack([self.right[form][epoch, side] for form in (SHUFFLED, KWISE)], axis=1)
            sides.append(resampled(right, self._prompts[side].tolist()) @ np.array([-1.0, 1.0]))
        value = self.gap(KWISE, epoch) - self.gap(SHUFFLED, epoch)
        return estimates(np.array([value]), (sides[0] - sides[1])[:, None])[0]

    def summary(self) -> dict[str, object]:
        epochs = range(len(self.right[KWISE]))
        return {
            form: {
                "train": [self.accuracy(form, epoch, True) for epoch in epochs],
                "held_out": [self.accuracy(form, epoch, False) for epoch in epochs],
            }
            for form in self.right
        } | {"pairs": {"train": int(self._train.sum()), "held_out": int((~self._train).sum())}}


def _by_prompt(prompts: Array, inside: Array) -> list[Array]:
    order = inside[np.argsort(prompts[inside], kind="stable")]
    _, first = np.unique(prompts[order], return_index=True)
    return np.split(order, first[1:])


def _table(found: dict[str, _Comparison], epochs: int) -> str:
    header = [
        "set",
        "epochs",
        "form",
        "train",
        "held out",
        "gap",
        "gap less that of shuffled pairs",
    ]
    rows = [
        [
            name,
            str(epoch + 1),
            form,
            f"{one.accuracy(form, epoch, True):.3f}",
            f"{one.accuracy(form, epoch, False):.3f}",
            f"{one.gap(form, epoch):.3f}",
            interval(one.gap_difference(epoch)) if form == KWISE else "",
        ]
        for name, one in found.items()
        for epoch in sorted({0, epochs - 1})
        for form in (SHUFFLED, KWISE)
    ]
    return table(header, rows)


def _draw(found: dict[str, _Comparison], epochs: int) -> str:
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "plaudit", "font.size": 8}):
        figure = Figure(figsize=(3.2 * len(found), 2.6), layout="constrained")
        axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axis, (name, one) in zip(axes, found.items(), strict=True):
            for form, colour in ((SHUFFLED, "C1"), (KWISE, "C0")):
                for train, style in ((True, "--"), (False, "-")):
                    values = [one.accuracy(form, epoch, train) for epoch in range(epochs)]
                    label = f"{form}, {'train' if train else 'held out'}"
                    axis.plot(range(1, epochs + 1), values, style, color=colour, label=label)
            axis.set(title=name, xlabel="epochs", ylabel="accuracy")
        axes[0].legend(frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
