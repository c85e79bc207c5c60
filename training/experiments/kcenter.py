"""Does greedy k-center choose better pairs to train on than chance?

"Maybe Only 0.5 % Data is Needed" (arXiv:2305.09246) chooses samples of instruction tuning so.
Choosing preference pairs so is our extension. Pairs of RMB are embedded by their prompts, and by
prompt and chosen response as in the paper; hashed words under a truncated SVD stand for an encoder.

Letters: N training pairs, D dimensions, S seeds, P held-out pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize

from training.data.shapes import Pair
from training.data.splits import Split
from training.drawing import svg
from training.evaluate.accuracy import Estimate, accuracies, differences
from training.experiments import bag_of_words
from training.experiments.bag_of_words import Labels, Texts
from training.experiments.datasets import rmb_pairs
from training.experiments.result import Result, table
from training.measure import Array
from training.selection.embedding import TEXTS
from training.selection.k_center import cover_radius, k_center

SHARES = (0.01, 0.05, 0.1)
SPLIT = Split(validation=0, test=0.2)
FEATURES = 2**15
DIMENSIONS = 64
# Few pairs need more epochs; more than two of all pairs overfit.
EPOCHS, EPOCHS_OF_ALL = 10, 2
RANDOM, ALL = "random", "all"
NAMES = {"prompt": "k-center, prompt", "chosen": "k-center, prompt and chosen"}


@dataclass(frozen=True)
class Data:
    """Which pairs (N,) are trained on and which (P,) test; the points (N, D) of each text that
    stands for a training pair; whether its chosen response is the longer one, (N,)."""

    texts: Texts
    train: Array
    test: Array
    prompts: list[str]
    points: dict[str, Array]
    longer: Array

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> "Data":
        side = np.array([SPLIT.side(pair) == "train" for pair in pairs])
        train, test = np.flatnonzero(side), np.flatnonzero(~side)
        trained = [pairs[place] for place in train.tolist()]
        return cls(
            Texts.of(pairs),
            train,
            test,
            [pairs[place].first_turn for place in test.tolist()],
            {name: embed([text(pair) for pair in trained]) for name, text in TEXTS.items()},
            np.array([len(pair.chosen) > len(pair.rejected) for pair in trained]),
        )


@dataclass(frozen=True)
class Arm:
    """What one way to choose gives, by seed: the cover radius by the text that is embedded, the
    share of pairs whose chosen response is longer, and which held-out pairs are right, (S, P)."""

    radius: dict[str, list[float]]
    longer: list[float]
    right: Array

    def accuracies(self) -> list[float]:
        found: list[float] = self.right.mean(axis=1).tolist()
        return found


def run(data: Path, quick: bool) -> Result:
    """Five seeds; ``quick``: one, on a fifth of the prompts."""
    known = Data.of(rmb_pairs(data, 0.2 if quick else 1.0))
    seeds = range(1 if quick else 5)
    everything = np.arange(len(known.train))
    whole = arm(known, lambda seed: everything, seeds, EPOCHS_OF_ALL)
    found = {share: arms(known, share, seeds) for share in SHARES}
    return Result(
        tables=[_table(known, whole, found)],
        figure=_draw(whole, found),
        figures={
            "pairs": {"train": len(known.train), "test": len(known.test)},
            "all": _summary(whole),
            "shares": {
                str(share): {name: _summary(one) for name, one in some.items()}
                for share, some in found.items()
            },
        },
        failures=_failures(found),
    )


def embed(texts: Sequence[str]) -> Array:
    """Points (N, D) of length one."""
    words = HashingVectorizer(n_features=FEATURES, alternate_sign=False).transform(texts)
    svd = TruncatedSVD(DIMENSIONS, n_iter=3, random_state=0)
    found: Array = normalize(svd.fit_transform(words))
    return found


def arms(data: Data, share: float, seeds: Sequence[int]) -> dict[str, Arm]:
    """As many pairs at random, and by greedy k-center of each text."""
    size = len(data.train)
    count = round(share * size)

    def at_random(seed: int) -> Array:
        return np.random.default_rng(seed).choice(size, count, replace=False)

    found = {RANDOM: arm(data, at_random, seeds, EPOCHS)}
    for name, points in data.points.items():
        covers = [k_center(points, count, seed).chosen for seed in seeds]
        found[name] = arm(data, covers.__getitem__, seeds, EPOCHS)
    return found


def arm(data: Data, choose: Callable[[int], Array], seeds: Sequence[int], epochs: int) -> Arm:
    """A model for each seed, of the training pairs that ``choose(seed)`` names by their place."""
    labels = Labels.given(len(data.texts.places))
    radius: dict[str, list[float]] = {name: [] for name in data.points}
    longer, right = [], []
    for seed in seeds:
        chosen = choose(seed)
        for name, points in data.points.items():
            radius[name].append(cover_radius(points, chosen))
        longer.append(float(data.longer[chosen].mean()))
        pairs = data.train[chosen]
        model = bag_of_words.train_on_pairs(data.texts, labels, pairs, epochs, seed)
        right.append(bag_of_words.margins(model, data.texts, data.test) > 0)
    return Arm(radius, longer, np.array(right))


def _failures(found: dict[float, dict[str, Arm]]) -> list[str]:
    """The radius is claimed, not the accuracy."""
    return [
        f"{share:.0%}, seed {seed}: the radius of {NAMES[name]} is below random's"
        for share, some in found.items()
        for name in TEXTS
        for seed, (own, chance) in enumerate(
            zip(some[name].radius[name], some[RANDOM].radius[name], strict=True)
        )
        if own >= chance
    ]


def _summary(one: Arm) -> dict[str, object]:
    return {"radius": one.radius, "chosen_longer": one.longer, "accuracy": one.accuracies()}


def _table(data: Data, whole: Arm, found: dict[float, dict[str, Arm]]) -> str:
    header = ["share", "pairs", "by", "radius: prompt", "prompt and chosen", "chosen is longer"]
    rows = [["100%", str(len(data.train)), ALL, *_figures(whole, data.prompts), "", ""]]
    for share, some in found.items():
        size = str(round(share * len(data.train)))
        for name, one in some.items():
            chance = some[RANDOM]
            compared = ["", ""]
            if name != RANDOM:
                pairs = zip(one.accuracies(), chance.accuracies(), strict=True)
                ahead = sum(own > random for own, random in pairs)
                gain = f"{_gain(one, chance, data.prompts):+.3f}"
                compared = [gain, f"{ahead} of {len(one.right)}"]
            label = NAMES.get(name, name)
            rows.append([f"{share:.0%}", size, label, *_figures(one, data.prompts), *compared])
    return table([*header, "accuracy", "less random's", "seeds ahead"], rows)


def _figures(one: Arm, prompts: list[str]) -> list[str]:
    estimate = accuracies(one.right.mean(axis=0)[:, None], prompts)[0]
    return [
        *(f"{np.mean(radii):.3f}" for radii in one.radius.values()),
        f"{np.mean(one.longer):.2f}",
        f"{estimate:.3f}",
    ]


def _gain(one: Arm, chance: Arm, prompts: list[str]) -> Estimate:
    """Accuracy less that of random pairs, on the same held-out pairs, over seeds."""
    right = np.stack([chance.right.mean(axis=0), one.right.mean(axis=0)], axis=1)
    return differences(right, prompts, baseline=0)[1]


def _draw(whole: Arm, found: dict[float, dict[str, Arm]]) -> str:
    def panels(figure: Figure) -> None:
        radius, accuracy = figure.subplots(1, 2)
        for text, dash in (("prompt", "-"), ("chosen", "--")):
            for name, colour in ((text, "C0"), (RANDOM, "C1")):
                label = NAMES[text] if name == text else f"random, {NAMES[text][10:]}"
                _curve(radius, [s[name].radius[text] for s in found.values()], colour + dash, label)
        for name, look in ((RANDOM, "C1-"), ("prompt", "C0-"), ("chosen", "C0--")):
            right = [some[name].accuracies() for some in found.values()]
            _curve(accuracy, right, look, NAMES.get(name, name))
        accuracy.axhline(float(whole.right.mean()), color="gray", label="all pairs")
        radius.set(xlabel="pairs chosen, %", ylabel="cover radius", ylim=(0, 2))
        accuracy.set(xlabel="pairs chosen, %", ylabel="accuracy, held out", ylim=(0.3, 0.75))
        radius.legend(frameon=False)
        accuracy.legend(frameon=False, loc="lower right")

    return svg(panels, width=7)


def _curve(axis: Axes, by_share: list[list[float]], look: str, label: str) -> None:
    """The mean over seeds, and from the least to the largest."""
    shares = [100 * share for share in SHARES]
    axis.plot(shares, np.mean(by_share, axis=1), look, label=label)
    low, high = np.min(by_share, axis=1), np.max(by_share, axis=1)
    axis.fill_between(shares, low, high, color=look[:2], alpha=0.15, linewidth=0)
