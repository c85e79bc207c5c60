"""Does one element of a batch for all comparisons of a prompt overfit less than shuffled pairs?

After InstructGPT (arXiv:2203.02155 section 3.5), which saw shuffled comparisons overfit within one
epoch. Both forms see every comparison once an epoch, in steps of as many comparisons.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.data.shapes import Pair
from training.data.splits import Split, by_prompt
from training.drawing import svg
from training.evaluate.accuracy import Estimate, differences, estimates, resampled
from training.experiments import bag_of_words
from training.experiments.bag_of_words import Labels, Texts
from training.experiments.datasets import read
from training.experiments.result import Result, table
from training.measure import Array

SETS = {"QA-feedback": "qa_feedback_lists", "RMB lists": "rmb_lists"}
SPLIT = Split(validation=0, test=0.3)
EPOCHS = 6
SHUFFLED, KWISE = "shuffled pairs", "K-wise"


def run(data: Path, quick: bool) -> Result:
    """Five seeds of six epochs; ``quick``: two of three, on QA-feedback."""
    seeds, epochs = (2, 3) if quick else (5, EPOCHS)
    names = list(SETS)[:1] if quick else list(SETS)
    found = {name: compare(read(data, SETS[name], "lists"), seeds, epochs) for name in names}
    return Result(
        tables=[_table(found, epochs)],
        figure=_draw(found, epochs),
        figures={name: one.summary() for name, one in found.items()} | {"seeds": seeds},
        failures=[
            f"{name}: {claim}"
            for name, one in found.items()
            for claim, held in _claims(one).items()
            if not held
        ],
    )


@dataclass(frozen=True)
class Comparison:
    """How often each pair is right, over seeds, by form: (epochs, pairs)."""

    prompts: Array
    train: Array
    right: dict[str, Array]

    def accuracy(self, form: str, epoch: int, train: bool) -> float:
        return float(self.right[form][epoch, self.train == train].mean())

    def gap(self, form: str, epoch: int) -> float:
        """Accuracy on the training pairs less that on the held-out ones."""
        return self.accuracy(form, epoch, True) - self.accuracy(form, epoch, False)

    def gap_difference(self, epoch: int) -> Estimate:
        """The K-wise gap less the shuffled one, paired, resampled over prompts of each side."""
        sides = []
        for side in (self.train, ~self.train):
            right = np.stack([self.right[form][epoch, side] for form in (SHUFFLED, KWISE)], axis=1)
            sides.append(resampled(right, self.prompts[side].tolist()) @ np.array([-1.0, 1.0]))
        value = self.gap(KWISE, epoch) - self.gap(SHUFFLED, epoch)
        return estimates(np.array([value]), (sides[0] - sides[1])[:, None])[0]

    def held_out_difference(self, epoch: int) -> Estimate:
        """K-wise accuracy less the shuffled one, paired."""
        held_out = ~self.train
        right = [self.right[form][epoch, held_out] for form in (SHUFFLED, KWISE)]
        return differences(np.stack(right, axis=1), self.prompts[held_out].tolist(), baseline=0)[1]

    def summary(self) -> dict[str, object]:
        epochs = range(len(self.right[KWISE]))
        return {
            form: {
                "train": [self.accuracy(form, epoch, True) for epoch in epochs],
                "held_out": [self.accuracy(form, epoch, False) for epoch in epochs],
            }
            for form in self.right
        } | {"pairs": {"train": int(self.train.sum()), "held_out": int((~self.train).sum())}}


def compare(pairs: list[Pair], seeds: int, epochs: int) -> Comparison:
    texts, labels = Texts.of(pairs), Labels.given(len(pairs))
    train = np.array([SPLIT.side(pair) == "train" for pair in pairs])
    inside = np.flatnonzero(train)
    prompts = by_prompt(inside.tolist(), key=lambda place: pairs[place])
    elements = {SHUFFLED: list(inside[:, None]), KWISE: [np.array(places) for places in prompts]}
    everything = np.arange(len(pairs))

    def right(some: list[Array], seed: int) -> list[Array]:
        models = bag_of_words.train(texts, labels, some, epochs, seed)
        return [bag_of_words.margins(model, texts, everything) > 0 for model in models]

    found = {
        form: np.mean([right(some, seed) for seed in range(seeds)], axis=0)
        for form, some in elements.items()
    }
    return Comparison(np.array([pair.first_turn for pair in pairs]), train, found)


def _claims(one: Comparison) -> dict[str, bool]:
    """A smaller gap alone could be a model that learnt less."""
    return {
        "the gap of K-wise batches is smaller": one.gap_difference(-1).value < 0,
        "they are not shown to be worse held out": one.held_out_difference(-1).high >= 0,
    }


def _table(found: dict[str, Comparison], epochs: int) -> str:
    header = ["set", "epochs", "form", "train", "held out", "gap", "K-wise less shuffled: held out"]
    rows = [
        [
            name,
            str(epoch + 1),
            form,
            f"{one.accuracy(form, epoch, True):.3f}",
            f"{one.accuracy(form, epoch, False):.3f}",
            f"{one.gap(form, epoch):.3f}",
            f"{one.held_out_difference(epoch):+.3f}" if form == KWISE else "",
            f"{one.gap_difference(epoch):+.3f}" if form == KWISE else "",
        ]
        for name, one in found.items()
        for epoch in sorted({0, epochs - 1})
        for form in (SHUFFLED, KWISE)
    ]
    return table([*header, "gap"], rows)


def _draw(found: dict[str, Comparison], epochs: int) -> str:
    def panels(figure: Figure) -> None:
        axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axis, (name, one) in zip(axes, found.items(), strict=True):
            _curves(axis, one, epochs)
            axis.set(title=name, xlabel="epochs", ylabel="accuracy")
        axes[0].legend(frameon=False)

    return svg(panels, width=3.2 * len(found))


def _curves(axis: Axes, one: Comparison, epochs: int) -> None:
    for form, colour in ((SHUFFLED, "C1"), (KWISE, "C0")):
        for train, style in ((True, "--"), (False, "-")):
            values = [one.accuracy(form, epoch, train) for epoch in range(epochs)]
            label = f"{form}, {'train' if train else 'held out'}"
            axis.plot(range(1, epochs + 1), values, style, color=colour, label=label)
