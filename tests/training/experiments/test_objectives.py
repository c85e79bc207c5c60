"""The sweep over weights: pairs are judged by members that never saw them; its ends are these."""

import numpy as np
import pytest

from training.data.shapes import Pair
from training.experiments.bag_of_words import Labels, Texts, margins, train_on_pairs
from training.experiments.objectives import EPOCHS, WEIGHTS, Data, cross_fit, sweep


@pytest.fixture(scope="module")
def arbitrary() -> Data:
    """200 pairs of words that stand nowhere else, so that a label can only be remembered."""
    pairs = [
        Pair(({"role": "user", "content": f"q{i}"},), f"yes{i} so{i}", f"no{i} but{i}", "s", "c")
        for i in range(200)
    ]
    folds = np.arange(200) % 4
    return Data(pairs, Texts.of(pairs), folds, np.arange(200) < 100)


def test_pairs_are_judged_by_members_that_never_saw_them(arbitrary):
    own = np.ones(200, bool)
    found = cross_fit(arbitrary, own, seed=0)[-1]
    judged = (found.scores[:, 0] > found.scores[:, 1]).mean()
    model = train_on_pairs(arbitrary.texts, Labels.given(200), np.arange(200), EPOCHS, seed=0)
    remembered = (margins(model, arbitrary.texts, np.arange(200)) > 0).mean()
    assert remembered > 0.95
    assert 0.35 < judged < 0.65


def test_a_fold_is_normalised_by_one_mean_and_one_std(arbitrary):
    found = cross_fit(arbitrary, arbitrary.is_helpful, seed=0)[-1]
    for fold in range(4):
        judged = arbitrary.folds == fold
        shift = found.scores[judged] - found.stds[fold] * found.rewards[judged]
        assert shift == pytest.approx(shift[0, 0])  # one mean, one std


def test_the_ends_of_a_sweep_are_the_members_alone():
    generator = np.random.default_rng(0)
    helpful, harmless = generator.normal(size=(2, 50, 2))
    found = sweep(helpful, harmless)
    assert found.shape == (50, len(WEIGHTS))
    assert (found[:, 0] == (harmless[:, 0] > harmless[:, 1])).all()
    assert (found[:, -1] == (helpful[:, 0] > helpful[:, 1])).all()
    total = helpful + harmless
    assert (found[:, WEIGHTS.index(0.5)] == (total[:, 0] > total[:, 1])).all()
