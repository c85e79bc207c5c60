"""Whatever shares which prefix, and whatever the budget: each sequence scores as it does alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification

from plaudit.joint_model import Asked, JointModel
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import RewardModel

# Few tokens and few stems: prefixes of every length are common, and so are equal sequences.
stems = st.lists(st.lists(st.integers(3, 6), max_size=24), min_size=1, max_size=3)
sequences = stems.flatmap(
    lambda stems: st.lists(
        st.tuples(st.sampled_from(stems), st.lists(st.integers(3, 6), max_size=9)).map(
            lambda parts: [*parts[0], *parts[1]] or [3]
        ),
        min_size=1,
        max_size=8,
    )
)


@pytest.fixture(scope="module")
def packed(tiny_checkpoint: Path) -> JointModel:
    """One that holds prefixes from one example to the next."""
    return JointModel(RewardModel.load(tiny_checkpoint), PrefixCache(100_000))


@pytest.fixture(scope="module")
def plain(tiny_checkpoint: Path) -> torch.nn.Module:
    return AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint).eval()


@settings(
    max_examples=60, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(sequences, st.integers(1, 80))
def test_packed_scores_are_those_of_plain_transformers(
    packed: JointModel, plain: torch.nn.Module, found: list[list[int]], budget: int
) -> None:
    with torch.no_grad():
        alone = [plain(torch.tensor([one])).logits.item() for one in found]
    together = packed.score_all([Asked(0, one) for one in found], budget)
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-5)
