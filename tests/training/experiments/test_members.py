"""Members of one start: what their averages are, and that none disturbs another."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from training.average import average
from training.data.shapes import Pair
from training.experiments.bag_of_words import BagOfWords, Labels, Texts, averaged, scores_of
from training.experiments.members import (
    RECIPES,
    Shared,
    fine_tuned,
    rewards_of,
    together,
    windows,
)

PAIRS = [
    Pair(({"role": "user", "content": f"Question {i % 7}"},), f"because {i}", f"no {i}", "s", "c")
    for i in range(60)
]
TEXTS = Texts.of(PAIRS)


def start(seed: int = 0) -> BagOfWords:
    return BagOfWords(TEXTS.features.shape[1], torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def shared() -> Shared:
    return Shared(TEXTS, Labels.given(60), np.arange(60), start())


def test_the_warm_of_a_linear_model_is_its_ens(tmp_path: Path):
    torch.manual_seed(0)
    inputs = torch.randn(50, 300, dtype=torch.float64)
    directories = [tmp_path / f"member-{number}" for number in range(4)]
    for directory in directories:
        directory.mkdir()
        save_file({"score.weight": torch.randn(1, 300)}, directory / "model.safetensors")
    (tmp_path / "warm").mkdir()
    average(directories, [0.25] * 4, tmp_path / "warm")

    def scores(directory: Path) -> torch.Tensor:
        return inputs @ load_file(directory / "model.safetensors")["score.weight"].double().T

    ens = torch.stack([scores(directory) for directory in directories]).mean(dim=0)
    assert (scores(tmp_path / "warm") - ens).abs().max() < 1e-6


def test_members_that_differ_in_the_linear_head_alone_average_to_their_ens():
    members = [start() for _ in range(4)]
    for seed, one in enumerate(members):
        torch.manual_seed(seed)
        torch.nn.init.normal_(one.score)
    ens = np.mean([scores_of(one, TEXTS.features) for one in members], axis=0)
    assert scores_of(averaged(members), TEXTS.features) == pytest.approx(ens, abs=1e-6)


def test_members_that_differ_below_the_head_do_not():
    members = [start(seed) for seed in range(4)]
    ens = np.mean([scores_of(one, TEXTS.features) for one in members], axis=0)
    assert np.abs(scores_of(averaged(members), TEXTS.features) - ens).max() > 0.01


def test_the_average_of_copies_is_the_copy():
    one = start()
    found = averaged([one] * 4)
    for own, known in zip(found.parameters(), one.parameters(), strict=True):
        assert torch.equal(own, known)


def test_members_trained_together_are_those_trained_alone(shared):
    *_, models = together(shared, RECIPES[:2], epochs=2, seed=3)
    *_, alone = fine_tuned(shared, RECIPES[1], epochs=2, seed=2 * 3 + 1)
    assert torch.equal(models[1].words.weight, alone.words.weight)
    assert not torch.equal(models[0].words.weight, alone.words.weight)


def test_training_leaves_the_start_as_it_was(shared):
    before = shared.start.words.weight.clone()
    list(fine_tuned(shared, RECIPES[0], epochs=1, seed=0))
    assert torch.equal(shared.start.words.weight, before)


def test_rewards_are_standardised_by_the_reference_responses():
    reference = np.arange(20)
    found = rewards_of([start(0), start(1)], TEXTS.features, reference)[:, reference]
    assert found.mean(axis=1) == pytest.approx([0, 0], abs=1e-9)
    assert found.std(axis=1, ddof=1) == pytest.approx([1, 1])


def test_choices_of_members_hold_each_as_often_as_any_other():
    assert windows(3, 2) == [[0, 1], [1, 2], [2, 0]]
    assert windows(3, 3) == [[0, 1, 2]]
