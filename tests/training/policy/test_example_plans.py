"""The plans of examples/policy are plans, and answer prompts that are there."""

from pathlib import Path

import pytest

from training import settings
from training.data import sources
from training.policy import prompts
from training.policy.generate import GenerateSettings
from training.policy.grpo import GrpoSettings
from training.policy.iterate import IteratePlan
from training.policy.ppo import PpoSettings
from training.policy.prefer import PreferSettings
from training.policy.raft import RaftPlan
from training.policy.rrhf import RrhfPlan
from training.settings import TrainSettings

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("name", "kind"), [("raft", RaftPlan), ("rrhf", RrhfPlan)])
def test_an_example_is_a_plan(name, kind):
    plan = settings.load(kind, ROOT / "examples" / "policy" / f"{name}.yaml")
    found = prompts.load(ROOT / plan.prompts.path)
    assert all(prompts.on_side(found, plan.split, side) for side in ("train", "test"))


@pytest.mark.parametrize(("name", "kind"), [("grpo", GrpoSettings), ("ppo", PpoSettings)])
def test_an_example_of_learning_from_rewards_has_prompts_on_its_side(name, kind):
    plan = settings.load(kind, ROOT / "examples" / "policy" / f"{name}.yaml")
    found = prompts.load(ROOT / plan.prompts.path)
    per_step = plan.batch_responses * plan.accumulation // plan.responses
    assert len(prompts.on_side(found, plan.split, plan.side)) >= per_step


def test_the_example_of_preferences_has_pairs_on_both_sides():
    plan = settings.load(PreferSettings, ROOT / "examples" / "policy" / "prefer.yaml")
    [source] = plan.sources
    pairs = sources.load(source.model_copy(update={"path": ROOT / source.path})).pairs
    assert {"train", "validation"} <= {plan.split.side(pair) for pair in pairs}


def test_the_example_of_rounds_names_plans_of_its_stages():
    plan = settings.load(IteratePlan, ROOT / "examples" / "iterated" / "plan.yaml")
    settings.load(GenerateSettings, ROOT / plan.generate)
    settings.load(GrpoSettings, ROOT / plan.grpo)
    judge = settings.load(TrainSettings, ROOT / plan.judge)
    assert judge.meta is not None
