"""What the shares of answers above a bound are held against."""

import numpy as np
import pytest

from training.experiments.reliance import BOUNDS, nominal


@pytest.mark.parametrize("members", [2, 6])
def test_members_with_errors_of_their_own_keep_gold_above_the_bound_as_often_as_is_said(members):
    errors = np.random.default_rng(0).normal(size=(100_000, members))
    middle, spread = errors.mean(axis=1), errors.std(axis=1, ddof=1)
    held = (middle[:, None] - BOUNDS * spread[:, None] <= 0).mean(axis=0)
    # Four standard deviations of a share of 100,000.
    assert held == pytest.approx(nominal(members), abs=0.0064)
