"""Does cross-fitted strength find mislabelled pairs, and does flipping the weakest help?

After Secrets of RLHF II (arXiv:2401.06080): 25 % of the training labels of RMB are flipped; M
members, cross-fitted over five folds of prompts, measure every training pair; the weakest tenth is
flipped back. M is 10, as there. Beside it: nothing done, random flips, the other treatments.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from training.data.shapes import Pair
from training.data.splits import Split, fold_of
from training.evaluate.accuracy import Estimate, differences
from training.experiments import bag_of_words
from training.experiments.bag_of_words import Labels, Texts
from training.experiments.datasets import rmb_pairs
from training.experiments.result import Result, interval, table
from training.measure import Array
from training.noise import figures
from training.noise.strength import Strength
from training.noise.treatments import quantiles

NOISE = 0.25
FOLDS = 5
MEMBERS = 10
SHARE = 0.1
SMOOTHING = 0.1
EPOCHS = 2
# Models of each arm: one alone varies by a point with its seed.
RUNS = 4
UNTREATED, FLIPPED, RANDOM = "untreated", "weakest flipped", "random flipped"
SPLIT = Split(validation=0, test=0.2)


def run(data: Path, quick: bool) -> Result:
    """Three seeds; ``quick``: one, on a third of the prompts, with fewer members."""
    pairs = rmb_pairs(data, share=0.33 if quick else 1.0)
    seeds = range(1) if quick else range(3)
    texts = Texts.of(pairs)
    side = np.array([SPLIT.side(pair) == "train" for pair in pairs])
    found = [_Seed(seed, pairs, texts, side, quick) for seed in seeds]
    first = found[0].figures
    return Result(
        title="Preference strength",
        tables=[_finding(found), _treatments(found)],
        figure=figures.draw(first),
        figures={
            "seeds": [one.summary() for one in found],
            "pairs": {"train": int(side.sum()), "test": int((~side).sum())},
            "noise": NOISE,
        },
        failures=_failures(found, quick),
    )


class _Seed:
    """One draw of the noise: strength of the training pairs, accuracy of each treatment."""

    def __init__(self, seed: int, pairs: list[Pair], texts: Texts, side: Array, quick: bool):
        self._texts, self._members = texts, 2 if quick else MEMBERS
        self._train, self._test = np.flatnonzero(side), np.flatnonzero(~side)
        generator = np.random.default_rng(seed)
        self.wrong = side & (generator.random(len(pairs)) < NOISE)
        folds = np.array([fold_of(pair, FOLDS) for pair in pairs])
        strength = self._cross_fit(folds, seed)
        self.figures = figures.of(
            strength.mean[self._train], strength.std[self._train], self.wrong[self._train]
        )
        self._prompts = [pairs[i].first_turn for i in self._test]
        self._right = {
            name: self._accuracy(seed, 1 if quick else RUNS, labels, kept)
            for name, (labels, kept) in self._arms(strength, generator).items()
        }

    def _cross_fit(self, folds: Array, seed: int) -> Strength:
        """Strength of every training pair by members of the other folds; by the noisy labels."""
        margins = np.zeros((self._members, len(folds)))
        noisy = replace(Labels.given(len(folds)), swapped=self.wrong)
        for fold in range(FOLDS):
            seen = self._train[folds[self._train] != fold]
            unseen = self._train[folds[self._train] == fold]
            for member in range(self._members):
                own_seed = 1000 * seed + 10 * fold + member
                model = bag_of_words.train_on_pairs(self._texts, noisy, seen, 1, own_seed)
                margins[member, unseen] = bag_of_words.margins(model, self._texts, unseen)
        margins[:, self.wrong] *= -1
        return Strength.of(margins)

    def _arms(
        self, strength: Strength, generator: np.random.Generator
    ) -> dict[str, tuple[Labels, Array]]:
        """The labels of each arm, and the pairs it is trained on."""
        mean = strength.mean
        weakest, random = np.zeros((2, len(mean)), bool)
        weakest[self._train] = np.array(quantiles(mean[self._train].tolist())) < SHARE
        drawn = generator.choice(self._train, int(weakest.sum()), replace=False)
        random[drawn] = True
        smoothed = np.where(mean < 0, 1 - SMOOTHING, 1.0)
        noisy = replace(Labels.given(len(mean)), swapped=self.wrong)
        mended = replace(noisy, swapped=self.wrong ^ weakest)
        found = {
            UNTREATED: noisy,
            FLIPPED: mended,
            RANDOM: replace(noisy, swapped=self.wrong ^ random),
            "smoothed below zero": replace(noisy, soft_label=smoothed),
            "adaptive margin": replace(noisy, target_margin=mean),
            "flipped, with margin": replace(mended, target_margin=np.where(weakest, -mean, mean)),
        }
        kept = self._train[~weakest[self._train]]
        return {name: (labels, self._train) for name, labels in found.items()} | {
            "weakest dropped": (noisy, kept)
        }

    def _accuracy(self, seed: int, runs: int, labels: Labels, pairs: Array) -> Array:
        """How often (P,) each clean test pair is ordered rightly, over the runs."""
        found = []
        for run in range(runs):
            model = bag_of_words.train_on_pairs(
                self._texts, labels, pairs, EPOCHS, 1000 * seed + 500 + run
            )
            found.append(bag_of_words.margins(model, self._texts, self._test) > 0)
        return np.mean(found, axis=0)

    def accuracy(self, name: str) -> float:
        return float(self._right[name].mean())

    def gain(self, name: str) -> Estimate:
        """Accuracy less that of the untreated run, on the same pairs."""
        right = np.stack([self._right[UNTREATED], self._right[name]], axis=1)
        return differences(right, self._prompts, baseline=0)[1]

    @property
    def arms(self) -> list[str]:
        return list(self._right)

    def summary(self) -> dict[str, object]:
        assert self.figures.wrong_by_decile is not None
        return {
            "auc": self.figures.auc,
            "wrong_by_decile": self.figures.wrong_by_decile,
            "below_zero": self.figures.below_zero,
            "accuracy": {name: self.accuracy(name) for name in self.arms},
            "deviations": self.figures.deviations,
        }


def _finding(found: list[_Seed]) -> str:
    header = ["seed", "AUC", "below zero", "wrong labels, weakest tenth to strongest"]
    rows = [
        [
            str(seed),
            f"{one.figures.auc:.3f}",
            f"{one.figures.below_zero:.0%}",
            " ".join(f"{share:.2f}" for share in one.figures.wrong_by_decile or []),
        ]
        for seed, one in enumerate(found)
    ]
    return table(header, rows)


def _treatments(found: list[_Seed]) -> str:
    seeds = range(len(found))
    header = ["trained on", *(f"seed {s}" for s in seeds), *(f"gain, seed {s}" for s in seeds)]
    rows = [
        [
            name,
            *(f"{one.accuracy(name):.3f}" for one in found),
            *("" if name == UNTREATED else interval(one.gain(name)) for one in found),
        ]
        for name in found[0].arms
    ]
    return table(header, rows)


def _failures(found: list[_Seed], quick: bool) -> list[str]:
    """What the experiment is to show, where it does not; with ``quick`` only the direction."""
    said = []
    for seed, one in enumerate(found):
        deciles, auc = one.figures.wrong_by_decile or [], one.figures.auc or 0.0
        flipped, untreated, random = map(one.accuracy, (FLIPPED, UNTREATED, RANDOM))
        checks = {
            "AUC at least .70": auc >= (0.6 if quick else 0.7),
            "weakest tenth at least twice the base rate": deciles[0]
            >= (1.5 if quick else 2) * NOISE,
            "strongest tenth at most a quarter of it": deciles[-1]
            <= (0.75 if quick else 0.25) * NOISE,
            "flipping the weakest beats the untreated run": quick or flipped > untreated,
            "flipping the weakest beats random flips": flipped > random,
        }
        said += [f"seed {seed}: {name}" for name, held in checks.items() if not held]
    return said
