"""Does cross-fitted strength find mislabelled pairs, and does flipping the weakest help?

After Secrets of RLHF II (arXiv:2401.06080): 25 % of the training labels of RMB are flipped; M
members, cross-fitted over five folds of prompts, measure every training pair; the weakest tenth is
flipped back. M is 10, as there. Beside it: nothing done, random flips, the other treatments. Models
are judged after each epoch: the paper saw untreated ones peak and decline, treated ones stay.

Letters: P pairs, M members, E epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.data.shapes import Pair
from training.data.splits import Split, fold_of
from training.evaluate.accuracy import Estimate, differences
from training.experiments import bag_of_words
from training.experiments.bag_of_words import Labels, Texts
from training.experiments.datasets import rmb_pairs
from training.experiments.result import Result, table
from training.measure import Array
from training.noise import drawing, figures
from training.noise.figures import StrengthFigures
from training.noise.strength import Strength
from training.noise.treatments import quantiles

NOISE = 0.25
FOLDS = 5
SHARE = 0.1
SMOOTHING = 0.1
SHOWN = (1, 2, 5)  # epochs, in the table; claims are after the last
UNTREATED, FLIPPED, RANDOM = "untreated", "weakest flipped", "random flipped"
SPLIT = Split(validation=0, test=0.2)


@dataclass(frozen=True)
class Size:
    """``runs``: models of each arm, whose accuracies are averaged; one alone varies by a point."""

    share: float
    seeds: int
    members: int
    runs: int
    epochs: int


FULL = Size(share=1.0, seeds=3, members=10, runs=3, epochs=5)
QUICK = Size(share=0.33, seeds=1, members=2, runs=1, epochs=2)


@dataclass(frozen=True)
class Data:
    """Pairs as features; which are trained on, in which fold, and which test."""

    texts: Texts
    folds: Array
    train: Array
    test: Array
    prompts: list[str]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> "Data":
        side = np.array([SPLIT.side(pair) == "train" for pair in pairs])
        folds = np.array([fold_of(pair, FOLDS) for pair in pairs])
        test = np.flatnonzero(~side)
        prompts = [pairs[place].first_turn for place in test.tolist()]
        return cls(Texts.of(pairs), folds, np.flatnonzero(side), test, prompts)


@dataclass(frozen=True)
class Outcome:
    """One draw of the noise: what strength finds, and how often each arm orders each test pair
    rightly after each epoch, (E, P)."""

    figures: StrengthFigures
    wrong_by_decile: list[float]
    auc: float
    right: dict[str, Array]
    prompts: list[str]

    def accuracy(self, arm: str, epoch: int = -1) -> float:
        return float(self.right[arm][epoch].mean())

    def gain(self, arm: str, epoch: int) -> Estimate:
        """Accuracy less that of the untreated run after the same epoch, on the same pairs."""
        right = np.stack([self.right[UNTREATED][epoch], self.right[arm][epoch]], axis=1)
        return differences(right, self.prompts, baseline=0)[1]


def run(data: Path, quick: bool) -> Result:
    """Three seeds; ``quick``: one, on a third of the prompts, with fewer members."""
    size = QUICK if quick else FULL
    known = Data.of(rmb_pairs(data, size.share))
    found = [outcome(known, seed, size) for seed in range(size.seeds)]
    return Result(
        tables=[_finding(found), _treatments(found, size.epochs)],
        figure=drawing.draw(found[0].figures),
        figures={
            "pairs": {"train": len(known.train), "test": len(known.test)},
            "noise": NOISE,
            "size": vars(size),
            "seeds": [_summary(one) for one in found],
        },
        failures=[
            f"seed {seed}: {name}"
            for seed, one in enumerate(found)
            for name, held in _claims(one, quick).items()
            if not held
        ],
    )


def outcome(data: Data, seed: int, size: Size) -> Outcome:
    generator = np.random.default_rng(seed)
    wrong = np.zeros(len(data.folds), bool)
    wrong[data.train] = generator.random(len(data.train)) < NOISE
    strength = cross_fit(data, wrong, seed, size.members)
    shown = figures.of(*(array[data.train] for array in (strength.mean, strength.std, wrong)))
    assert shown.wrong_by_decile is not None
    assert shown.auc is not None
    right = {
        name: right_of(data, labels, pairs, seed, size)
        for name, (labels, pairs) in arms(data, wrong, strength, generator).items()
    }
    return Outcome(shown, shown.wrong_by_decile, shown.auc, right, data.prompts)


def cross_fit(data: Data, wrong: Array, seed: int, members: int) -> Strength:
    """Strength, by the noisy labels, of every training pair by members of the other folds."""
    margins = np.zeros((members, len(wrong)))
    noisy = replace(Labels.given(len(wrong)), swapped=wrong)
    for fold in range(FOLDS):
        inside = data.folds[data.train] == fold
        seen, unseen = data.train[~inside], data.train[inside]
        for member in range(members):
            own_seed = 1000 * seed + 20 * fold + member
            model = bag_of_words.train_on_pairs(data.texts, noisy, seen, 1, own_seed)
            margins[member, unseen] = bag_of_words.margins(model, data.texts, unseen)
    return Strength.of(np.where(wrong, -margins, margins))


def arms(
    data: Data, wrong: Array, strength: Strength, generator: np.random.Generator
) -> dict[str, tuple[Labels, Array]]:
    """The labels of each arm, and the pairs it is trained on."""
    mean, train = strength.mean, data.train
    weakest, random = np.zeros((2, len(mean)), bool)
    weakest[train] = np.array(quantiles(mean[train].tolist())) < SHARE
    random[generator.choice(train, int(weakest.sum()), replace=False)] = True
    noisy = replace(Labels.given(len(mean)), swapped=wrong)
    mended = replace(noisy, swapped=wrong ^ weakest)
    smoothed = np.where(mean < 0, 1 - SMOOTHING, 1.0)
    found = {
        UNTREATED: noisy,
        FLIPPED: mended,
        RANDOM: replace(noisy, swapped=wrong ^ random),
        "smoothed below zero": replace(noisy, soft_label=smoothed),
        "adaptive margin": replace(noisy, target_margin=mean),
        "flipped, with margin": replace(mended, target_margin=np.where(weakest, -mean, mean)),
    }
    every = {name: (labels, train) for name, labels in found.items()}
    return every | {"weakest dropped": (noisy, train[~weakest[train]])}


def right_of(data: Data, labels: Labels, pairs: Array, seed: int, size: Size) -> Array:
    """How often (E, P) each clean test pair is ordered rightly after each epoch, over the runs."""
    elements = list(pairs[:, None])
    found = [
        [
            bag_of_words.margins(model, data.texts, data.test) > 0
            for model in bag_of_words.train(
                data.texts, labels, elements, size.epochs, 1000 * seed + 500 + run
            )
        ]
        for run in range(size.runs)
    ]
    share: Array = np.mean(found, axis=0)
    return share


def _claims(one: Outcome, quick: bool) -> dict[str, bool]:
    """What is to be shown; ``quick`` is too small for the gain, and asks less of the rest."""
    deciles, deviations = one.wrong_by_decile, one.figures.deviations
    flipped, untreated, random = map(one.accuracy, (FLIPPED, UNTREATED, RANDOM))
    return {
        "AUC at least .70": one.auc >= (0.6 if quick else 0.7),
        "weakest tenth at least twice the base rate": deciles[0] >= (1.5 if quick else 2) * NOISE,
        "strongest tenth at most a quarter": deciles[-1] <= (0.75 if quick else 0.25) * NOISE,
        "deviation over mean is U-shaped": min(deviations[0], deviations[-1]) > min(deviations),
        "flipping the weakest beats random flips": flipped > random,
        "flipping the weakest beats the untreated run": quick or flipped > untreated,
    }


def _summary(one: Outcome) -> dict[str, object]:
    return {
        "auc": one.auc,
        "wrong_by_decile": one.wrong_by_decile,
        "below_zero": one.figures.below_zero,
        "deviations": one.figures.deviations,
        "accuracy": {name: right.mean(axis=1).tolist() for name, right in one.right.items()},
    }


def _finding(found: Sequence[Outcome]) -> str:
    header = ["seed", "AUC", "below zero", "wrong labels, weakest tenth to strongest"]
    rows = [
        [
            str(seed),
            f"{one.auc:.3f}",
            f"{one.figures.below_zero:.0%}",
            " ".join(f"{share:.2f}" for share in one.wrong_by_decile),
        ]
        for seed, one in enumerate(found)
    ]
    return table(header, rows)


def _treatments(found: Sequence[Outcome], epochs: int) -> str:
    seeds = [f"seed {seed}" for seed in range(len(found))]
    header = ["epochs", "trained on", *seeds, *(f"gain, {seed}" for seed in seeds)]
    rows = [
        [
            str(epoch),
            name,
            *(f"{one.accuracy(name, epoch - 1):.3f}" for one in found),
            *("" if name == UNTREATED else f"{one.gain(name, epoch - 1):+.3f}" for one in found),
        ]
        for epoch in SHOWN
        if epoch <= epochs
        for name in found[0].right
    ]
    return table(header, rows)
