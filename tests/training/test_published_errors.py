"""Errors of published implementations: each test shows one failing a property that ours holds.

Errors of policy losses (KTO, SimPO, ORPO, RRHF, best-of-n) stand with those losses. That a score
does not depend on its batch (reward-bench#137) is held in tests/plaudit/test_reward_model.py.
"""

import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.calibration import Calibration
from plaudit.conversation import Encoder
from training import backbone, losses
from training.evaluate.accuracy import accuracies, is_right
from training.measure import accuracy
from training.train import train
from training.training_data import read, train_region


def slope(loss, chosen: float, rejected: float = 0.0) -> float:
    """The gradient of a loss of one pair by its chosen score, in fp32."""
    score = torch.tensor([chosen], requires_grad=True)
    loss(score, torch.tensor([rejected])).sum().backward()
    assert score.grad is not None
    return score.grad.item()


def test_secrets_ii_margin_outside_the_log_sigmoid():
    """Secrets of RLHF II (arXiv:2401.06080), eq. 6 as printed: the margin is a constant."""

    def printed(margin: float):
        return lambda chosen, rejected: -logsigmoid(chosen - rejected) + margin

    def ours(margin: float):
        return lambda chosen, rejected: losses.bradley_terry(chosen, rejected, margin)

    margins = (-2.0, 0.0, 1.0, 3.0)
    assert len({slope(printed(margin), 0.5) for margin in margins}) == 1
    slopes = [slope(ours(margin), 0.5) for margin in margins]
    assert all(larger < smaller < 0 for smaller, larger in pairwise(slopes))  # pulls harder
    expected = [-torch.sigmoid(torch.tensor(margin - 0.5)).item() for margin in margins]
    assert slopes == pytest.approx(expected)


def test_secrets_ii_denominator_of_the_preference():
    """The same report, eq. 1: a misprinted denominator, read as one response in both its terms.
    A preference and its contrary are certain together; of such a form they are not."""
    chosen, rejected = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0])

    def printed(first: Tensor, second: Tensor) -> Tensor:
        return first.exp() / (second.exp() + second.exp())

    def ours(first: Tensor, second: Tensor) -> Tensor:
        return (-losses.bradley_terry(first, second)).exp()

    certain = [1.0, 1.0]
    assert (printed(chosen, rejected) + printed(rejected, chosen)).tolist() != pytest.approx(
        certain
    )
    assert (ours(chosen, rejected) + ours(rejected, chosen)).tolist() == pytest.approx(certain)
    expected = chosen.exp() / (chosen.exp() + rejected.exp())
    assert ours(chosen, rejected).tolist() == pytest.approx(expected.tolist())


def test_moss_rlhf_a_lost_pair_has_no_slope():
    """MOSS-RLHF 4865d82, reward_trainer.py: a constant inside the logarithm caps the cost, so what
    is lost worst is given up."""

    def published(chosen: Tensor, rejected: Tensor) -> Tensor:
        return -torch.log(torch.sigmoid(chosen - rejected) + 1e-5)

    assert slope(published, -30.0) == pytest.approx(0, abs=1e-6)
    assert slope(losses.bradley_terry, -30.0) == pytest.approx(-1)


def test_moss_rlhf_resume_reads_what_was_never_written(configure, tmp_path):
    """MOSS-RLHF 4865d82, reward_trainer.py: the state is loaded with a key its own dictionary
    lacks. Here a run goes on from its state to the weights of one that never stopped."""
    written = {"total_steps": 4, "total_exps": 32, "best_score": 0.5}
    with pytest.raises(KeyError, match="patient"):
        _ = {name: written[name] for name in ("total_steps", "total_exps", "patient", "best_score")}

    # At one rate throughout, one epoch is the first of two.
    steady = {"scheduler": "constant", "warmup": 0.0, "lr": 1e-3}
    half = configure(tmp_path / "half", epochs=1, **steady)
    whole = configure(tmp_path / "whole", epochs=2, **steady)
    resumed = configure(tmp_path / "resumed", epochs=2, **steady)
    train(half)
    shutil.copytree(half.out / "trainer", resumed.out / "trainer")
    train(resumed, resume=True)
    train(whole)
    found, expected, before = (
        load_file(config.out / "model.safetensors") for config in (resumed, whole, half)
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not all(torch.equal(found[name], before[name]) for name in before)


def test_rlhflow_odin_ranks_a_batch_instead_of_its_pairs():
    """RLHFlow odin/gemma_two_head.py: scores are summed over the batch before the logistic, so a
    pair that is won pays for one that is lost."""

    def gradient(loss, chosen: list[float], rejected: list[float]) -> list[float]:
        scores = torch.tensor(chosen, requires_grad=True)
        loss(scores, torch.tensor(rejected)).backward()
        assert scores.grad is not None
        found: list[float] = scores.grad.tolist()
        return found

    def published(chosen: Tensor, rejected: Tensor) -> Tensor:
        return -logsigmoid(chosen.sum() - rejected.sum())

    def ours(chosen: Tensor, rejected: Tensor) -> Tensor:
        return losses.mean_over_prompts(
            losses.bradley_terry(chosen, rejected), torch.arange(len(chosen))
        )

    chosen, rejected = [9.0, -2.0, 0.5], [0.0, 1.0, 0.0]
    for loss, holds in ((published, False), (ours, True)):
        alone = [
            gradient(loss, [one], [other])[0] / len(chosen)
            for one, other in zip(chosen, rejected, strict=True)
        ]
        assert (gradient(loss, chosen, rejected) == pytest.approx(alone, abs=1e-7)) is holds
    assert gradient(published, chosen, rejected)[1] == pytest.approx(0, abs=2e-3)  # lost, unheard
    assert gradient(ours, chosen, rejected)[1] == pytest.approx(-0.95 / 3, abs=2e-3)


def test_openrlhf_log_exp_overflows_and_has_no_margin():
    """OpenRLHF models/loss.py, LogExpLoss: the exponential of a large lead, and an argument that
    is not used."""

    def published(chosen: Tensor, rejected: Tensor, margin: float = 0.0) -> Tensor:
        return torch.log(1 + torch.exp(rejected - chosen))

    lost, even = torch.tensor([-1e4]), torch.zeros(1)
    assert published(lost, even).item() == float("inf")
    assert np.isnan(slope(published, -1e4))
    assert published(even, even, margin=3.0) == published(even, even)

    assert losses.bradley_terry(lost, even).item() == pytest.approx(1e4)
    assert losses.bradley_terry(-lost, even).item() == 0
    assert [slope(losses.bradley_terry, lead) for lead in (-1e4, 1e4)] == [-1, 0]
    assert losses.bradley_terry(even, even, 3.0).item() == pytest.approx(np.log1p(np.exp(3.0)))


@pytest.mark.parametrize("overlong", ["drop", "cut"])
def test_trl_drops_overlong_pairs_silently(configure, tmp_path, capsys, overlong):
    """huggingface/trl#2118: pairs over the limit are filtered out and nothing says so."""
    config = configure(tmp_path)
    tokenizer = backbone.load_tokenizer(config)
    encoder = Encoder(tokenizer, len(tokenizer), config.max_tokens)
    every = train_region(config, read(config), encoder)
    longer = [max(len(pair.chosen), len(pair.rejected)) for pair in every]
    limit = min(longer)
    published = [pair for pair, tokens in zip(every, longer, strict=True) if tokens <= limit]
    lost = len(every) - len(published)
    assert 0 < lost < len(every)
    capsys.readouterr()

    short = configure(tmp_path, train_max_tokens=limit, overlong=overlong)
    ours = train_region(short, read(short), encoder)
    said = capsys.readouterr().out
    assert f"easy: {len(ours)} pairs to train on; {lost} over {limit} tokens, 0 alike" in said
    assert len(ours) == len(published) + (lost if overlong == "cut" else 0)
    assert max(len(ids) for pair in ours for ids in (pair.chosen, pair.rejected)) <= limit


def test_trl_leaves_ties_out_of_the_accuracy():
    """TRL compute_accuracy: pairs of equal scores are not counted, so a model that ties where it is
    unsure, or whose padding is its end mark (RLHFlow#49), looks good. A tie is wrong here, as in
    RewardBench."""
    chosen, rejected = np.array([1.0, 2.0, 2.0, 0.0]), np.array([0.0, 2.0, 2.0, 0.0])

    def published() -> float:
        told_apart = chosen != rejected
        return float((chosen > rejected)[told_apart].mean())

    assert published() == 1.0
    assert accuracy(chosen - rejected) == 0.25
    right = is_right(chosen, rejected)
    assert accuracies(right[:, None], list("abcd"))[0].value == 0.25


def test_reward_calibration_takes_the_next_knot():
    """ZeroYuHuang/Reward-Calibration: between two knots of the curve, the height of the next one,
    so that one character more can change a reward by a whole step."""
    knots = ((100.0, 0.0), (200.0, 2.0), (300.0, 3.0))

    def published(characters: int) -> float:
        return next(height for place, height in knots if place >= characters)

    ours = Calibration("length", curve=knots).expected
    assert published(201) - published(200) == 1.0
    steps = [ours(characters + 1) - ours(characters) for characters in range(100, 300)]
    assert max(steps) == pytest.approx(0.02)
    assert ours(150) == 1.0
