"""The probe of the contrastive experiment finds what separates, and by other prompts only."""

import numpy as np
import pytest
import torch

from training.data.shapes import Pair
from training.experiments.bag_of_words import BagOfWords, Texts
from training.experiments.contrastive import Data, probed


def data_of(count: int) -> Data:
    """Pairs that all test, two of each prompt."""
    places = np.arange(count)
    return Data(None, places[:0], places, [f"prompt {place // 2}" for place in places])


def test_features_that_tell_chosen_from_rejected_are_separated():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, 3))
    features[:200, 1] += 5
    auc, right = probed(data_of(200), features)
    assert auc > 0.99
    assert right.shape == (200,)
    assert right.mean() > 0.95


def test_features_of_the_prompt_alone_separate_nothing():
    """A probe that saw the prompt it is tested on could not learn from it either: both sides of a
    pair have the same features."""
    features = np.tile(np.random.default_rng(0).normal(size=(200, 3)), (2, 1))
    auc, right = probed(data_of(200), features)
    assert auc == pytest.approx(0.5)
    assert right.tolist() == [0.5] * 200


def test_pairs_of_one_bag_of_words_are_left_out():
    prompts = [({"role": "user", "content": f"Question {i}?"},) for i in range(40)]
    alike = [Pair(prompt, "yes, no", "Yes no!", "s", "c") for prompt in prompts]
    apart = [Pair(prompt, "yes", "no", "s", "c") for prompt in prompts]
    found = Data.of(alike + apart)
    assert sorted([*found.train, *found.test]) == list(range(40, 80))
    assert len(found.prompts) == len(found.test) > 0


def test_hidden_units_are_dropped_in_training_only_and_give_the_scores():
    texts = Texts.of([Pair(({"role": "user", "content": "Why?"},), "so it is", "no", "s", "c")])
    model = BagOfWords(texts.features.shape[1], torch.Generator().manual_seed(0), dropout=0.5)
    first, second = model.hidden(texts.features), model.hidden(texts.features)
    assert not torch.equal(first, second)
    model.eval()
    hidden = model.hidden(texts.features)
    assert torch.equal(hidden, model.hidden(texts.features))
    assert torch.equal(model(texts.features), hidden @ model.score)
