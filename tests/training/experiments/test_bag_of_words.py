"""The experiments' small reward model: it learns, it repeats itself, it hears what labels say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.data.shapes import Pair
from training.experiments.bag_of_words import Labels, Texts, margins, train_on_pairs

PAIRS = [
    Pair(({"role": "user", "content": f"Question {i % 7}"},), f"because {i}", f"no {i}", "s", "c")
    for i in range(60)
]
TEXTS = Texts.of(PAIRS)
TRAIN, TEST = np.arange(40), np.arange(40, 60)


def accuracy(labels: Labels) -> float:
    model = train_on_pairs(TEXTS, labels, TRAIN, 5, seed=0)
    return float((margins(model, TEXTS, TEST) > 0).mean())


def test_it_learns_a_word_that_decides():
    assert accuracy(Labels.given(60)) == 1.0


def test_swapped_labels_teach_the_contrary():
    assert accuracy(replace(Labels.given(60), swapped=np.ones(60, bool))) == 0.0


@pytest.mark.parametrize(("soft_label", "expected"), [(1.0, 1.0), (0.0, 0.0)])
def test_soft_labels_decide_which_side_is_better(soft_label, expected):
    assert accuracy(replace(Labels.given(60), soft_label=np.full(60, soft_label))) == expected


def test_a_margin_widens_the_lead():
    plain, wide = (
        margins(train_on_pairs(TEXTS, labels, TRAIN, 5, 0), TEXTS, TEST).mean()
        for labels in (
            Labels.given(60),
            replace(Labels.given(60), target_margin=np.full(60, 2.0)),
        )
    )
    assert wide > plain


def test_a_seed_gives_the_same_model():
    first, again, other = (
        train_on_pairs(TEXTS, Labels.given(60), TRAIN, 1, seed).words.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_response_to_one_prompt_stands_once():
    prompt = ({"role": "user", "content": "Hi"},)
    texts = Texts.of([Pair(prompt, "a", "b", "s", "c"), Pair(prompt, "b", "c", "s", "c")])
    assert texts.places.tolist() == [[0, 1], [1, 2]]
    assert texts.features.shape[0] == 3
