"""Contrastive terms by hand, at their limits, and by what they pull."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.contrastive import signed_differences, simcse, sinkhorn, swav

AXES = torch.eye(3)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_simcse_of_two_vectors_by_hand():
    # Cosines 0.6 and 0.8 to the own and the other view, at temperature 1/2.
    first = torch.tensor([[2.0, 0.0]])
    second = torch.tensor([[3.0, 4.0], [8.0, 6.0]])
    found = simcse(first.expand(2, 2), second, 0.5)
    total = math.exp(1.2) + math.exp(1.6)
    assert found.tolist() == pytest.approx([math.log(total) - 1.2, math.log(total) - 1.6])


def test_identical_views_of_orthogonal_vectors_are_the_floor():
    # -log(e^(1/t) / (e^(1/t) + 2)): nothing that dropout could change is left to learn.
    floor = math.log(1 + 2 * math.exp(-2))
    assert simcse(AXES, 7 * AXES, 0.5).tolist() == pytest.approx([floor] * 3)


def test_views_that_have_nothing_in_common_are_told_apart_by_chance():
    found = simcse(AXES[:1].expand(3, 3), AXES[1:2].expand(3, 3), 0.05)
    assert found.tolist() == pytest.approx([math.log(3)] * 3)


def test_a_vector_alone_costs_nothing():
    assert simcse(AXES[:1], AXES[1:2], 0.05).tolist() == [0.0]


def test_simcse_pulls_a_vector_to_its_other_view_and_from_the_rest():
    first = torch.tensor([[1.0, 1.0, 1.0]], requires_grad=True)
    simcse(first.expand(3, 3), AXES, 1.0)[0].backward()
    own, *others = first.grad[0].tolist()
    assert own < 0 < min(others)


def test_swav_of_one_vector_by_hand():
    # One vector: two rounds over it alone make its code uniform, whatever its prototypes.
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    prototypes = torch.tensor([[5.0, 0.0], [0.0, 2.0]])
    found = swav(first, second, prototypes, 0.5).item()
    log_first = [2.0 - math.log(math.exp(2) + 1), -math.log(math.exp(2) + 1)]
    total = math.log(math.exp(1.2) + math.exp(1.6))
    log_second = [1.2 - total, 1.6 - total]
    assert found == pytest.approx(-(sum(log_first) + sum(log_second)) / 2)


def test_sinkhorn_of_two_vectors_by_hand():
    # Weights e^(l/.05) in rows: [4, 1] and [1, 1]. Columns to one: [4/5, 1/2], [1/5, 1/2]; rows to
    # one: [8/13, 5/13], [2/7, 5/7].
    likeness = 0.05 * torch.log(torch.tensor([[4.0, 1.0], [1.0, 1.0]]))
    found = sinkhorn(likeness, rounds=1)
    assert found.flatten().tolist() == pytest.approx([8 / 13, 5 / 13, 2 / 7, 5 / 7])


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 10))
def test_sinkhorn_shares_the_vectors_among_the_prototypes(vectors, prototypes, seed):
    likeness = 0.2 * random(vectors, prototypes, seed=seed).clamp(-1, 1)
    codes = sinkhorn(likeness, rounds=300)
    assert codes.sum(1).tolist() == pytest.approx([1.0] * vectors)
    assert codes.sum(0).tolist() == pytest.approx([vectors / prototypes] * prototypes, rel=1e-2)
    assert sinkhorn(likeness).sum(1).tolist() == pytest.approx([1.0] * vectors)


def test_codes_of_vectors_on_their_prototypes_choose_them():
    torch.testing.assert_close(sinkhorn(AXES), AXES, atol=1e-6, rtol=0)
    floor = 2 * math.log(1 + 2 * math.exp(-2))  # each view predicts the other's
    assert swav(AXES, AXES, 9 * AXES, 0.5).tolist() == pytest.approx([floor] * 3)


def test_extreme_likenesses_do_not_overflow():
    assert sinkhorn(torch.tensor([[1e4, -1e4], [1e4, 1e4]])).isfinite().all()


def test_codes_are_targets_without_a_gradient():
    """At equal views the gradient is that of the cross-entropy to fixed codes."""
    prototypes, base = random(4, 6, seed=1), random(5, 6)
    vectors = base.clone().requires_grad_()
    swav(vectors, vectors, prototypes, 0.1).sum().backward()
    fixed = base.clone().requires_grad_()
    likeness = torch.cosine_similarity(fixed[:, None], prototypes[None], dim=2)
    codes = sinkhorn(likeness.detach())
    expected = torch.nn.functional.cross_entropy(likeness / 0.1, codes, reduction="sum")
    (2 * expected).backward()
    torch.testing.assert_close(vectors.grad, fixed.grad)
    assert not torch.equal(vectors.grad, torch.zeros_like(base))


def test_swav_moves_the_prototypes_too():
    prototypes = random(4, 6, seed=1).requires_grad_()
    swav(random(5, 6), random(5, 6, seed=2), prototypes, 0.1).mean().backward()
    assert prototypes.grad.abs().min() > 0


def test_lengths_do_not_matter():
    first, second, prototypes = random(5, 6), random(5, 6, seed=1), random(4, 6, seed=2)
    for term in (
        lambda a, b, c: simcse(a, b, 0.1),
        lambda a, b, c: swav(a, b, c, 0.1),
    ):
        found, expected = (
            term(3 * first, 0.1 * second, 8 * prototypes),
            term(first, second, prototypes),
        )
        torch.testing.assert_close(found, expected)


def test_differences_come_in_both_signs():
    states = torch.tensor([[1.0, 2.0], [4.0, 4.0], [0.0, 1.0]])
    found = signed_differences(states, torch.tensor([0, 1]), torch.tensor([1, 2]))
    assert found.tolist() == [[-3, -2], [4, 3], [3, 2], [-4, -3]]
