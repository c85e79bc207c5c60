"""How far apart members are, by what they are told to differ in: order, rates, where they start.

Baklava (arXiv:2401.12187 section 3): members start from different checkpoints of one earlier
training, under one head. Here these are its epochs. Members are trained on the pairs, and the
flipped labels, of ``memorisation``.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch

from training.experiments import bag_of_words
from training.experiments.bag_of_words import BagOfWords, Labels
from training.experiments.members import Recipe, Shared, fine_tuned, rewards_of
from training.experiments.memorisation import HELD_OUT, START_EPOCHS, Data, flipped
from training.experiments.result import table

SAME = Recipe(lr=0.06, dropout=0.05)
ORDER, RECIPES, BAKLAVA = "order", "order, rate, dropout", "order, rate, dropout, start"
DIVERSE = (Recipe(0.03, 0.05), Recipe(0.06, 0.1), Recipe(0.09, 0.05))


class Diversity(NamedTuple):
    """Means over every two members: the distance of their weights, and the share of held-out pairs
    that they order differently."""

    distance: float
    disagreement: float


def diversity(data: Data, seed: int) -> dict[str, Diversity]:
    """Of three members each after one epoch, by what they differ in."""
    given = Labels.given(len(data.prompts))
    elements = list(data.start[:, None])
    trained = bag_of_words.train(data.texts, given, elements, START_EPOCHS + 1, seed)
    starts = [copy.deepcopy(model) for model in trained]
    for one in starts:
        one.score.data = starts[START_EPOCHS - 1].score.data
    labels = replace(given, swapped=flipped(data, seed))
    shared = Shared(data.texts, labels, data.train, starts[START_EPOCHS - 1])
    alike, recipes, baklava = (
        [
            next(fine_tuned(replace(shared, start=start), recipe, 1, 3 * seed + number))
            for number, (recipe, start) in enumerate(zip(told, several, strict=True))
        ]
        for told, several in (
            ([SAME] * 3, [shared.start] * 3),
            (DIVERSE, [shared.start] * 3),
            (DIVERSE, starts),
        )
    )
    found = {ORDER: alike, RECIPES: recipes, BAKLAVA: baklava}
    return {kind: _between(data, models) for kind, models in found.items()}


def _between(data: Data, models: Sequence[BagOfWords]) -> Diversity:
    reference = np.unique(data.texts.places[data.validation])
    rewards = rewards_of(models, data.texts.features, reference)
    chosen, rejected = rewards[:, data.texts.places[data.judged[HELD_OUT]]].transpose(2, 0, 1)
    right = chosen > rejected
    both = [*combinations(range(len(models)), 2)]
    return Diversity(
        float(np.mean([_distance(models[one], models[other]) for one, other in both])),
        float(np.mean([right[one] != right[other] for one, other in both])),
    )


def _distance(one: BagOfWords, other: BagOfWords) -> float:
    parts = zip(one.parameters(), other.parameters(), strict=True)
    return float(torch.cat([(a - b).detach().flatten() for a, b in parts]).norm())


def failures(found: dict[str, Diversity]) -> list[str]:
    """The more members are told to differ in, the more pairs they order differently. Distances are
    reported: Adagrad's first steps, which are as long as the rate, make most of them."""
    return [
        f"members that differ in {more} disagree more than by {less}"
        for less, more in ((ORDER, RECIPES), (RECIPES, BAKLAVA))
        if found[more].disagreement <= found[less].disagreement
    ]


def rows(found: dict[str, Diversity]) -> str:
    return table(
        ["members differ in", "distance of weights", "pairs ordered differently"],
        [[kind, f"{one.distance:.0f}", f"{one.disagreement:.3f}"] for kind, one in found.items()],
    )
