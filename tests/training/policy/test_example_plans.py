"""The plans of examples/policy are plans, and answer prompts that are there."""

from pathlib import Path

import pytest

from training import settings
from training.policy import prompts
from training.policy.raft import RaftPlan
from training.policy.rrhf import RrhfPlan

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("name", "kind"), [("raft", RaftPlan), ("rrhf", RrhfPlan)])
def test_an_example_is_a_plan(name, kind):
    plan = settings.load(kind, ROOT / "examples" / "policy" / f"{name}.yaml")
    found = prompts.load(ROOT / plan.prompts.path)
    assert all(prompts.on_side(found, plan.split, side) for side in ("train", "test"))
