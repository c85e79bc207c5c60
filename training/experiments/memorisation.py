"""What members of one start remember of wrong labels, alone and combined.

25 % of the training labels of RMB are flipped. Members are judged after each epoch, alone, by the
mean of their calibrated rewards (ENS) and by the mean of their weights (WARM).

Letters: P pairs, N responses, M members, E epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.data.shapes import Pair
from training.data.splits import Fold, Split
from training.evaluate.accuracy import Estimate, differences
from training.experiments import bag_of_words, members
from training.experiments.bag_of_words import BagOfWords, Labels, Texts
from training.experiments.members import Recipe, Shared
from training.measure import Array

NOISE = 0.25
START_EPOCHS = 2
# Apart from training: a fold of prompts for the start, shares that stop and that judge.
SPLIT = Split(validation=0.1, test=0.2, fold=Fold(count=10, held_out=0))
HELD_OUT_CATEGORIES = (
    "Helpfulness/Translation/", "Helpfulness/Code/",
    "Harmlessness/S7", "Harmlessness/S8", "Harmlessness/S9",
)  # fmt: skip
ENS, WARM = "ENS", "WARM"
Arm = tuple[str, int]  # the kind, and of how many members
SINGLE: Arm = (WARM, 1)
STOPPED, START, LENGTH_ONLY = "single, stopped early", "start", "length-only"
CORRUPTED, CLEAN, HELD_OUT = "corrupted", "clean", "held out"
OTHER_CATEGORIES, OTHER_SOURCE = "other categories", "HH helpful"


@dataclass(frozen=True)
class Data:
    """Pairs as features with their prompts, and places of those that the start is trained on, that
    members are, that stop them, and that judge, by column."""

    texts: Texts
    prompts: Array
    start: Array
    train: Array
    validation: Array
    judged: dict[str, Array]

    @classmethod
    def of(cls, pairs: Sequence[Pair], other: Sequence[Pair]) -> "Data":
        """Of ``pairs``, whole categories are held out with all their prompts."""
        apart = {pair.first_turn for pair in pairs if _is_apart(pair)}
        inside = [p for p in pairs if _is_apart(p) or p.first_turn not in apart]
        known = {pair.first_turn for pair in inside}
        every = inside + [pair for pair in other if pair.first_turn not in known]
        sides = np.array(
            [OTHER_CATEGORIES if _is_apart(pair) else SPLIT.side(pair) for pair in inside]
            + [OTHER_SOURCE] * (len(every) - len(inside))
        )
        start, train, validation, test, categories, source = (
            np.flatnonzero(sides == side)
            for side in ("held_out", "train", "validation", "test", OTHER_CATEGORIES, OTHER_SOURCE)
        )
        return cls(
            Texts.of(every),
            np.array([pair.first_turn for pair in every]),
            start,
            train,
            validation,
            {HELD_OUT: test, OTHER_CATEGORIES: categories, OTHER_SOURCE: source},
        )


def _is_apart(pair: Pair) -> bool:
    return pair.category.startswith(HELD_OUT_CATEGORIES)


@dataclass(frozen=True)
class NoiseDraw:
    """One draw of the noise. ``right``: how often every pair is right by the label that training
    was given, by arm after each epoch (E, P); ``beside`` of what has no epochs, (P,). ``columns``:
    places of the pairs that each figure is of."""

    columns: dict[str, Array]
    prompts: Array
    right: dict[Arm, Array]
    beside: dict[str, Array]
    stopped_after: list[int]

    def of(self, arm: Arm | str, epoch: int) -> Array:
        """How often each pair is right, (P,)."""
        return self.beside[arm] if isinstance(arm, str) else self.right[arm][epoch - 1]

    def accuracy(self, arm: Arm | str, epoch: int, column: str) -> float:
        return float(self.of(arm, epoch)[self.columns[column]].mean())

    def less(self, one: Arm | str, other: Arm | str, epoch: int, column: str) -> Estimate:
        """Accuracy of one arm less that of another, on the same pairs."""
        own = self.columns[column]
        right = np.stack([self.of(arm, epoch)[own] for arm in (other, one)], axis=1)
        return differences(right, self.prompts[own].tolist(), baseline=0)[1]


def noise_draw(data: Data, recipes: Sequence[Recipe], epochs: int, seed: int) -> NoiseDraw:
    """The seed decides the labels that are flipped, the start, and every member."""
    wrong, given = flipped(data, seed), Labels.given(len(data.prompts))
    start = bag_of_words.train_on_pairs(data.texts, given, data.start, START_EPOCHS, seed)
    shared = Shared(data.texts, replace(given, swapped=wrong), data.train, start)
    # By epoch, by arm, of every choice of its members.
    found = [
        {arm: np.array([is_right(data, one, wrong) for one in rewards]) for arm, rewards in arms}
        for models in members.together(shared, recipes, epochs, seed)
        for arms in [judged(data, models)]
    ]
    alone = np.stack([one[SINGLE] for one in found])
    best = alone[:, :, data.validation].mean(axis=2).argmax(axis=0)
    beside = {
        START: is_right(data, bag_of_words.scores_of(start, data.texts.features), wrong),
        STOPPED: np.mean([alone[epoch, member] for member, epoch in enumerate(best)], axis=0),
        LENGTH_ONLY: is_right(data, data.texts.characters, wrong),
    }
    train = data.train
    columns = {CORRUPTED: train[wrong[train]], CLEAN: train[~wrong[train]], **data.judged}
    right = {arm: np.stack([one[arm].mean(axis=0) for one in found]) for arm in found[0]}
    return NoiseDraw(columns, data.prompts, right, beside, (best + 1).tolist())


def flipped(data: Data, seed: int) -> Array:
    """Which pairs (P,) get a wrong label: of the training ones a quarter."""
    wrong = np.zeros(len(data.prompts), bool)
    wrong[data.train] = np.random.default_rng(seed).random(len(data.train)) < NOISE
    return wrong


def judged(data: Data, models: Sequence[BagOfWords]) -> list[tuple[Arm, list[Array]]]:
    """Rewards (N,) by every choice of so many members, combined as each arm does."""
    reference = np.unique(data.texts.places[data.validation])
    rewards = members.rewards_of(models, data.texts.features, reference)
    found = []
    for count in range(1, len(models) + 1):
        choices = members.windows(len(models), count)
        averages = (bag_of_words.averaged([models[one] for one in some]) for some in choices)
        found += [
            ((ENS, count), [rewards[some].mean(axis=0) for some in choices]),
            ((WARM, count), [bag_of_words.scores_of(one, data.texts.features) for one in averages]),
        ]
    return found


def is_right(data: Data, rewards: Array, wrong: Array) -> Array:
    """Whether rewards (N,) order each pair (P,) as the label does that training was given."""
    chosen, rejected = rewards[data.texts.places].T
    margin = np.where(wrong, rejected - chosen, chosen - rejected)
    found: Array = margin > 0
    return found
