"""Bag-of-words members of one shared start, their calibrated rewards and their averages.

Letters: M members, N responses.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix

from training.experiments import bag_of_words
from training.experiments.bag_of_words import BagOfWords, Labels, Texts
from training.measure import Array


class Recipe(NamedTuple):
    """What tells one member from another, beside its own order of the pairs."""

    lr: float
    dropout: float


# Rates up to three times apart and two dropouts, after arXiv:2401.12187. At a third of these rates
# members hardly leave the start, at three times of them their average is no model any more.
RECIPES = tuple(Recipe(lr, dropout) for lr in (0.03, 0.09, 0.06) for dropout in (0.05, 0.1))


@dataclass(frozen=True)
class Size:
    """Of an experiment on members: the share of the prompts, draws of the noise, and of each the
    members and their epochs."""

    share: float
    seeds: int
    members: int
    epochs: int


@dataclass(frozen=True)
class Shared:
    """What all members are trained on, from which weights."""

    texts: Texts
    labels: Labels
    pairs: Array
    start: BagOfWords


def fine_tuned(shared: Shared, recipe: Recipe, epochs: int, seed: int) -> Iterator[BagOfWords]:
    """The member after each epoch, ready to score. The seed decides its order and what it drops."""
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(shared.start)
    model.dropout = recipe.dropout
    optimiser = bag_of_words.adagrad(model.parameters(), recipe.lr)
    elements = list(shared.pairs[:, None])
    for epoch in range(epochs):
        # Dropout draws from torch's own numbers, between epochs of other members.
        torch.manual_seed(1000 * seed + epoch)
        found = bag_of_words.batches(shared.texts, shared.labels, elements, generator)
        bag_of_words.step_through(model.train(), optimiser, found)
        yield model.eval()


def together(
    shared: Shared, recipes: Sequence[Recipe], epochs: int, seed: int
) -> Iterator[tuple[BagOfWords, ...]]:
    """All members after each epoch."""
    return zip(
        *(
            fine_tuned(shared, recipe, epochs, len(recipes) * seed + number)
            for number, recipe in enumerate(recipes)
        ),
        strict=True,
    )


def rewards_of(models: Sequence[BagOfWords], features: csr_matrix, reference: Array) -> Array:
    """Rewards (M, N): scores standardised by those of the responses ``reference``, as a checkpoint
    is calibrated on its validation pairs."""
    scores = np.stack([bag_of_words.scores_of(model, features) for model in models])
    known = scores[:, reference]
    found: Array = (scores - known.mean(1, keepdims=True)) / known.std(1, ddof=1, keepdims=True)
    return found


def windows(count: int, size: int) -> list[list[int]]:
    """Choices of ``size`` members of ``count`` in which each stands as often as any other."""
    if size == count:
        return [list(range(count))]
    return [[(first + one) % count for one in range(size)] for first in range(count)]
