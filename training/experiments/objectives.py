"""Does a weighted sum of a helpful and a harmless member go from one to the other by its weights?

HH-RLHF (arXiv:2204.05862): a member for each objective, ``w`` the weight of the helpful one,
``1 - w`` that of the harmless one. Members are cross-fitted over folds of prompts, so that every
pair is judged by members that saw neither its prompt nor took their statistics from it: 2,339 and
2,303 held-out pairs in place of some 470. Beside it: one model of both, length alone, and a sum
of raw scores, of members whose scales differ because one was trained longer.

Letters: P pairs, E epochs, W weights.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from plaudit.objectives import scale_warning, weighted_sum
from training.data.shapes import Pair
from training.data.splits import fold_of
from training.evaluate.accuracy import Estimate, estimates, is_right, resampled
from training.evaluate.baselines import LENGTH_ONLY, length_only
from training.experiments import bag_of_words
from training.experiments.bag_of_words import BagOfWords, Labels, Texts
from training.experiments.datasets import read
from training.experiments.pareto import draw
from training.experiments.result import Result, table
from training.measure import Array

HELPFUL, HARMLESS = "helpful", "harmless"
OBJECTIVES = (HELPFUL, HARMLESS)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
MIDDLE = WEIGHTS.index(0.5)
EPOCHS = 4
BOTH = "one model of both"
# The helpful member of the bundle whose raw scales differ.
SHORT_EPOCHS = 1


@dataclass(frozen=True)
class Data:
    """Pairs of both sets as features, their objective and their fold."""

    pairs: list[Pair]
    texts: Texts
    folds: Array
    is_helpful: Array

    @classmethod
    def of(cls, data: Path, folds: int) -> "Data":
        sets = {name: read(data, f"hh_{name}", "plaudit") for name in OBJECTIVES}
        pairs = [pair for some in sets.values() for pair in some]
        fold = np.array([fold_of(pair, folds) for pair in pairs])
        is_helpful = np.arange(len(pairs)) < len(sets[HELPFUL])
        return cls(pairs, Texts.of(pairs), fold, is_helpful)

    def of_objective(self, name: str) -> Array:
        return self.is_helpful if name == HELPFUL else ~self.is_helpful


@dataclass(frozen=True)
class Member:
    """Raw scores of both sides of every pair (P, 2), the same normalised, and the std by fold."""

    scores: Array
    rewards: Array
    stds: Array


def cross_fit(data: Data, own: Array, seed: int) -> list[Member]:
    """A member of the pairs ``own`` (P,) after each epoch.

    Every fold is judged by a model of the others. One of these is left out of training: it gives
    the mean and the std, as the validation pairs of a checkpoint do.
    """
    count = int(data.folds.max()) + 1
    scores, rewards = np.zeros((2, EPOCHS, len(own), 2))
    stds = np.zeros((EPOCHS, count))
    labels = Labels.given(len(own))
    for fold in range(count):
        judged, measured = data.folds == fold, data.folds == (fold + 1) % count
        train = np.flatnonzero(own & ~judged & ~measured)
        elements = list(train[:, None])
        models = bag_of_words.train(data.texts, labels, elements, EPOCHS, 100 * seed + fold)
        for epoch, model in enumerate(models):
            known = raw_scores(model, data.texts, np.flatnonzero(own & measured))
            found = raw_scores(model, data.texts, np.flatnonzero(judged))
            stds[epoch, fold] = known.std(ddof=1)
            scores[epoch, judged] = found
            rewards[epoch, judged] = (found - known.mean()) / stds[epoch, fold]
    return [Member(*one) for one in zip(scores, rewards, stds, strict=True)]


@torch.no_grad()
def raw_scores(model: BagOfWords, texts: Texts, pairs: Array) -> Array:
    """Scores of both sides of some pairs, (P, 2)."""
    sides = [model(texts.features[texts.places[pairs, side]]).numpy() for side in (0, 1)]
    return np.stack(sides, axis=1).astype(np.float64)


def sweep(helpful: Array, harmless: Array) -> Array:
    """Which pairs each weight orders rightly, (P, W), by two members' rewards (P, 2) or scores."""
    columns = []
    for weight in WEIGHTS:
        sides = [
            weighted_sum(np.stack([helpful[:, side], harmless[:, side]], 1), [weight, 1 - weight])
            for side in (0, 1)
        ]
        columns.append(is_right(*sides))
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Outcome:
    """How often each pair is right over the seeds, by arm: (P, W), or (P, 1) without a weight; and
    the members' std (seeds x folds) by bundle and objective."""

    right: dict[str, Array]
    stds: dict[str, dict[str, Array]]

    def flagged(self, bundle: str) -> list[str | None]:
        """The warning, if there is one, about each bundle of one seed and fold."""
        stds = self.stds[bundle]
        even = dict.fromkeys(OBJECTIVES, 0.5)
        found = zip(*(stds[name].ravel().tolist() for name in OBJECTIVES), strict=True)
        return [scale_warning(dict(zip(OBJECTIVES, pair, strict=True)), even) for pair in found]


ALIKE, UNLIKE = "trained alike", "harmless trained longer"
RAW = "harmless trained longer, raw scores"


def compare(data: Data, seeds: int) -> Outcome:
    """The sweeps of members trained alike and unlike, and of raw scores, over some seeds."""
    right: dict[str, list[Array]] = {ALIKE: [], UNLIKE: [], RAW: [], BOTH: []}
    stds: dict[str, dict[str, list[Array]]] = {
        bundle: {name: [] for name in OBJECTIVES} for bundle in (ALIKE, UNLIKE)
    }
    for seed in range(seeds):
        by_epoch = cross_fit(data, data.is_helpful, seed)
        short, helpful = by_epoch[SHORT_EPOCHS - 1], by_epoch[-1]
        harmless = cross_fit(data, ~data.is_helpful, seed)[-1]
        both = cross_fit(data, np.ones_like(data.is_helpful), seed)[-1]
        right[ALIKE].append(sweep(helpful.rewards, harmless.rewards))
        right[UNLIKE].append(sweep(short.rewards, harmless.rewards))
        right[RAW].append(sweep(short.scores, harmless.scores))
        right[BOTH].append(is_right(both.scores[:, :1], both.scores[:, 1:]))
        for bundle, one in ((ALIKE, helpful), (UNLIKE, short)):
            stds[bundle][HELPFUL].append(one.stds)
            stds[bundle][HARMLESS].append(harmless.stds)
    means = {arm: np.mean(some, axis=0) for arm, some in right.items()}
    lengths = length_only(data.pairs)
    means[LENGTH_ONLY] = is_right(lengths.chosen, lengths.rejected)[:, None]
    return Outcome(
        means,
        {bundle: {n: np.stack(s) for n, s in one.items()} for bundle, one in stds.items()},
    )


@dataclass(frozen=True)
class Axis:
    """Held-out accuracy on the pairs of one objective by arm, the step from each weight to the
    next, what raw scores change at each weight, and what one model of both does at equal weights:
    all on the same draws of prompts."""

    accuracy: dict[str, list[Estimate]]
    steps: list[Estimate]
    raw_less_normalised: list[Estimate]
    both_less_middle: Estimate

    @classmethod
    def of(cls, data: Data, found: Outcome, name: str) -> "Axis":
        own = np.flatnonzero(data.of_objective(name))
        prompts = [data.pairs[place].first_turn for place in own.tolist()]
        values, draws = {}, {}
        for arm, right in found.right.items():
            values[arm], draws[arm] = right[own].mean(axis=0), resampled(right[own], prompts)
        return cls(
            {arm: estimates(values[arm], draws[arm]) for arm in values},
            estimates(np.diff(values[ALIKE]), np.diff(draws[ALIKE], axis=1)),
            estimates(values[RAW] - values[UNLIKE], draws[RAW] - draws[UNLIKE]),
            estimates(
                values[BOTH] - values[ALIKE][MIDDLE], draws[BOTH] - draws[ALIKE][:, [MIDDLE]]
            )[0],
        )


def run(data: Path, quick: bool) -> Result:
    """Five seeds of ten folds; ``quick``: one of three."""
    seeds, folds = (1, 3) if quick else (5, 10)
    known = Data.of(data, folds)
    found = compare(known, seeds)
    axes = {name: Axis.of(known, found, name) for name in OBJECTIVES}
    claims = _claims(found, axes, quick)
    return Result(
        tables=[_sweep(axes), _raw(axes), _scales(found)],
        figure=draw(
            {arm: [axes[name].accuracy[arm] for name in OBJECTIVES] for arm in found.right},
            WEIGHTS,
        ),
        figures={
            "pairs": {name: int(known.of_objective(name).sum()) for name in OBJECTIVES},
            "size": {"seeds": seeds, "folds": folds, "epochs": EPOCHS},
            "weights": WEIGHTS,
            "accuracy": {
                name: {arm: [one.value for one in some] for arm, some in axis.accuracy.items()}
                for name, axis in axes.items()
            },
            "warnings": {bundle: found.flagged(bundle) for bundle in found.stds},
        },
        failures=[claim for claim, held in claims.items() if not held],
    )


def _claims(found: Outcome, axes: dict[str, Axis], quick: bool) -> dict[str, bool]:
    """What is to be shown: of every step that its interval excludes zero; ``quick``, its sign."""

    def rises(steps: Iterable[Estimate], sign: int) -> bool:
        ends = [one.value if quick else (one.low if sign > 0 else one.high) for one in steps]
        return all(sign * end > 0 for end in ends)

    helpful, harmless = axes[HELPFUL], axes[HARMLESS]
    raw = harmless.raw_less_normalised[MIDDLE], helpful.raw_less_normalised[MIDDLE]
    return {
        "helpful accuracy rises with its weight": rises(helpful.steps, 1),
        "harmless accuracy falls with it": rises(harmless.steps, -1),
        "each member is better than the other on its own pairs": all(
            axis.accuracy[ALIKE][own].low > axis.accuracy[ALIKE][other].high
            for axis, own, other in ((helpful, -1, 0), (harmless, 0, -1))
        ),
        "scales of members trained alike are not flagged": not any(found.flagged(ALIKE)),
        "scales of members trained unlike are flagged": all(found.flagged(UNLIKE)),
        "raw scores at equal weights lean to the larger scale": raw[0].value > 0 > raw[1].value,
    }


def _sweep(axes: dict[str, Axis]) -> str:
    header = ["w", *(f"{name} pairs" for name in OBJECTIVES)]
    rows = [
        [f"{weight:.2f}", *(f"{axes[name].accuracy[ALIKE][place]:.3f}" for name in OBJECTIVES),
         *(f"{axes[name].steps[place - 1]:+.3f}" if place else "" for name in OBJECTIVES)]
        for place, weight in enumerate(WEIGHTS)
    ]  # fmt: skip
    rows += [
        [arm, *(f"{axes[name].accuracy[arm][0]:.3f}" for name in OBJECTIVES), "", ""]
        for arm in (BOTH, LENGTH_ONLY)
    ]
    known = table([*header, *(f"step, {name}" for name in OBJECTIVES)], rows)
    less = ", ".join(f"{name} {axes[name].both_less_middle:+.3f}" for name in OBJECTIVES)
    return f"{known}\n{BOTH} less w = 0.50: {less}\n"


def _raw(axes: dict[str, Axis]) -> str:
    header = ["w", *(f"normalised, {name}" for name in OBJECTIVES)]
    rows = [
        [f"{weight:.2f}", *(f"{axes[name].accuracy[UNLIKE][place]:.3f}" for name in OBJECTIVES),
         *(f"{axes[name].raw_less_normalised[place]:+.3f}" for name in OBJECTIVES)]
        for place, weight in enumerate(WEIGHTS)
    ]  # fmt: skip
    return table([*header, *(f"raw less normalised, {name}" for name in OBJECTIVES)], rows)


def _scales(found: Outcome) -> str:
    rows = []
    for bundle, stds in found.stds.items():
        flagged = found.flagged(bundle)
        means = [f"{stds[name].mean():.2f}" for name in OBJECTIVES]
        rows.append([bundle, *means, f"{sum(map(bool, flagged))} of {len(flagged)}"])
    known = table(["members", *(f"std, {name}" for name in OBJECTIVES), "flagged"], rows)
    return f"{known}\n{UNLIKE}: {found.flagged(UNLIKE)[0] or 'not flagged'}\n"
