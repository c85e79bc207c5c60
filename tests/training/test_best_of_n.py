"""Best-of-n by order statistics: by hand, by every draw of a tiny pool, and its fitted curve."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluate.best_of_n import Curve, fit, kl, picked


def by_every_draw(proxy: list[float], weights: list[float], n: int) -> list[float]:
    """All K^n sequences of draws, each with its chance; of draws that tie one is picked evenly."""
    found = [0.0] * len(proxy)
    for draws in product(range(len(proxy)), repeat=n):
        best = max(proxy[draw] for draw in draws)
        top = [draw for draw in draws if proxy[draw] == best]
        chance = float(np.prod([weights[draw] for draw in draws]))
        for draw in top:
            found[draw] += chance / len(top)
    return found


def test_two_responses_by_hand():
    # The better one of weight 1/4 is missed by every one of n draws with chance (3/4)^n.
    found = picked(np.array([1.0, 2.0]), np.array([0.75, 0.25]), np.array([1, 2, 3]))
    assert found.tolist() == [[0.75, 0.25], [0.5625, 0.4375], [0.421875, 0.578125]]


def test_an_endless_number_of_draws_finds_the_best_however_rare():
    found = picked(np.array([0.0, 5.0, 1.0]), np.array([0.5, 1e-6, 0.499999]), np.array([10**8]))
    assert found[0] == pytest.approx([0, 1, 0])


def test_responses_that_tie_share_by_their_weights():
    found = picked(np.array([3.0, 3.0, 1.0]), np.array([0.2, 0.3, 0.5]), np.array([1, 4]))
    assert found[0] == pytest.approx([0.2, 0.3, 0.5])
    assert found[1] == pytest.approx([0.4 * (1 - 0.5**4), 0.6 * (1 - 0.5**4), 0.5**4])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=4),
    st.integers(1, 4),
)
def test_it_is_what_every_sequence_of_draws_gives(pool, n):
    proxy, parts = [float(value) for value, _ in pool], [part for _, part in pool]
    if sum(parts) == 0:
        parts = [1] * len(parts)
    weights = [part / sum(parts) for part in parts]
    found = picked(np.array(proxy), np.array(weights), np.array([n]))[0]
    assert found == pytest.approx(by_every_draw(proxy, weights, n), abs=1e-12)


def test_the_divergence_by_hand():
    # n = 1 is the policy itself; n = 2: log 2 - 1/2.
    assert kl(np.array([1, 2])) == pytest.approx([0, 0.1931471805599453])


def test_the_divergence_is_that_of_a_fine_pool_and_bounds_a_coarse_one():
    def exact(size: int, n: int) -> float:
        found = picked(np.arange(size), np.full(size, 1 / size), np.array([n]))[0]
        found = found[found > 0]
        return float((found * np.log(found * size)).sum())

    assert exact(100_000, 32) == pytest.approx(kl(np.array([32]))[0], abs=1e-3)
    assert exact(8, 32) == pytest.approx(np.log(8), abs=0.1)
    assert exact(8, 32) < kl(np.array([32]))[0]


def test_a_curve_is_found_again_and_peaks_where_its_slope_is_zero():
    divergence = kl(np.array([1, 2, 4, 16, 64, 1024]))
    found = fit(divergence, Curve(0.5, 0.125).at(divergence))
    assert found == pytest.approx((0.5, 0.125))
    assert found.peak == pytest.approx(4)  # d = 0.5 / 0.25 = 2
    assert Curve(0.5, 0.125).at(np.array([4.0])).tolist() == [0.5]
    assert Curve(0.5, -0.1).peak is None
