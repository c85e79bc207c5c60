"""Losses by hand."""

import math

import pytest
import torch

from training.losses import bradley_terry, centring, flipped_probability, mean_over_prompts


def test_a_tie_costs_log_2():
    tie = torch.tensor([1.5, -3.0])
    assert bradley_terry(tie, tie).tolist() == pytest.approx([math.log(2)] * 2)


def test_odds_of_three_cost_log_of_four_thirds():
    # sigmoid(log 3) is 3/4, sigmoid(-log 3) is 1/4.
    chosen, rejected = torch.tensor([math.log(3), 0.0]), torch.tensor([0.0, math.log(3)])
    expected = [math.log(4 / 3), math.log(4)]
    assert bradley_terry(chosen, rejected).tolist() == pytest.approx(expected)


def test_a_constant_added_to_both_sides_changes_nothing():
    chosen, rejected = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.25])
    moved = bradley_terry(chosen + 8, rejected + 8, target_margin=0.5, label_smoothing=0.1)
    still = bradley_terry(chosen, rejected, target_margin=0.5, label_smoothing=0.1)
    assert moved.tolist() == pytest.approx(still.tolist())


def test_smoothing_mixes_the_flipped_label():
    # A tenth of the labels is held flipped: 0.9 log(4/3) + 0.1 log 4.
    found = bradley_terry(torch.tensor([math.log(3)]), torch.tensor([0.0]), label_smoothing=0.1)
    assert found.item() == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


def test_the_target_margin_has_a_gradient():
    # At a tie the slope is -sigmoid(margin): -1/2 without a margin, -3/4 with log 3.
    for margin, slope in ((0.0, -0.5), (math.log(3), -0.75)):
        chosen = torch.zeros(1, requires_grad=True)
        bradley_terry(chosen, torch.zeros(1), target_margin=margin).backward()
        assert chosen.grad.item() == pytest.approx(slope)


def test_target_margins_may_differ_by_pair():
    margins = torch.tensor([0.0, math.log(3)])
    found = bradley_terry(torch.zeros(2), torch.zeros(2), target_margin=margins)
    assert found.tolist() == pytest.approx([math.log(2), math.log(4)])


def test_a_lost_pair_costs_its_margin_without_overflow():
    found = bradley_terry(torch.tensor([-1e4]), torch.tensor([0.0]))
    assert found.item() == pytest.approx(1e4)


def test_centring_is_the_square_of_the_sum():
    # The sums are 3 and 0.
    found = centring(torch.tensor([1.0, -1.0]), torch.tensor([2.0, 1.0]))
    assert found.tolist() == pytest.approx([9.0, 0.0])


def test_each_pair_may_have_its_own_probability_of_a_flip():
    odds = torch.tensor([math.log(3)] * 3)
    found = bradley_terry(odds, torch.zeros(3), label_smoothing=torch.tensor([0.0, 0.5, 1.0]))
    expected = [math.log(4 / 3), (math.log(4 / 3) + math.log(4)) / 2, math.log(4)]
    assert found.tolist() == pytest.approx(expected)


def test_a_soft_label_and_smoothing_flip_one_after_the_other():
    # Certain, a coin, and 3/4 right: flipped by 1/10 chance on top.
    found = flipped_probability(torch.tensor([1.0, 0.5, 0.75]), 0.1)
    assert found.tolist() == pytest.approx([0.1, 0.5, 0.25 * 0.9 + 0.75 * 0.1])


def test_each_prompt_weighs_the_same_however_many_pairs_it_has():
    costs = torch.tensor([1.0, 3.0, 10.0])
    assert mean_over_prompts(costs, torch.tensor([0, 0, 1])).item() == pytest.approx(6.0)
    assert mean_over_prompts(costs, torch.tensor([0, 1, 2])).item() == pytest.approx(14 / 3)
