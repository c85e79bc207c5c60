"""PPO: advantages by hand, a critic that learns what to expect, and a run on a served reward."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from short_runs import interrupted_after_first_state, same
from transformers import GPT2Config, GPT2LMHeadModel

from training.policy.critic import Critic, advantages, whitened
from training.policy.ppo import PpoSettings, ppo
from training.policy.prompts import PromptFile
from training.policy.rewards import Service
from training.settings import SettingsError


def test_advantages_are_those_computed_by_hand():
    """Two tokens of value 0.5 and 1, reward 2, gamma 0.9, lambda 0.5: the last error is
    2 - 1 = 1, the first 0.9 · 1 - 0.5 = 0.4, and the first advantage 0.4 + 0.45 · 1 = 0.85."""
    values = torch.tensor([[0.5, 1.0, 7.0], [1.0, 7.0, 7.0], [7.0, 7.0, 7.0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    found = advantages(torch.tensor([2.0, 3.0, 5.0]), values, mask, gamma=0.9, lam=0.5)
    expected = torch.tensor([[0.85, 1.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(found, expected)


def test_with_lambda_one_and_no_discount_it_is_the_reward_less_the_value():
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(6) < torch.tensor([[6], [3], [1], [5]])).long()
    rewards = torch.tensor([1.0, -2.0, 0.5, 3.0])
    found = advantages(rewards, values, mask, gamma=1.0, lam=1.0)
    assert torch.allclose(found, (rewards[:, None] - values) * mask, atol=1e-6)


def test_whitening_sees_only_the_responses():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    found = whitened(torch.tensor([[1.0, 2.0, 99.0], [6.0, 99.0, 99.0]]), mask)
    own = found[mask.bool()]
    assert own.mean().item() == pytest.approx(0, abs=1e-6)
    assert own.std().item() == pytest.approx(1)
    assert found[~mask.bool()].tolist() == [0, 0, 0]


def test_a_critic_begins_with_nothing_and_learns_what_comes(policy):
    critic = Critic.load(str(policy), 3e-3, 0, torch.device("cpu"))
    ids = torch.randint(3, 200, (4, 10), generator=torch.Generator().manual_seed(1))
    seen = torch.ones_like(ids)
    mask, returns = torch.ones(4, 6), torch.tensor([1.0, -1.0, 2.0, 0.0])[:, None].expand(4, 6)
    assert not critic.values(ids, seen, 6).any()
    costs = []
    for _ in range(40):
        costs.append(critic.fit(critic.values(ids, seen, 6), returns, mask, mask.sum()).item())
        critic.step()
    assert costs[0] == pytest.approx(1.5)
    assert costs[-1] < 0.3


def test_parts_of_a_batch_teach_a_critic_what_the_whole_would(policy):
    ids = torch.randint(3, 200, (5, 10), generator=torch.Generator().manual_seed(1))
    seen = torch.ones_like(ids)
    mask = (torch.arange(6) < torch.tensor([[6], [1], [2], [6], [3]])).long()
    returns = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))

    def gradients(size: int) -> list[torch.Tensor]:
        critic = Critic.load(str(policy), 1e-3, 0, torch.device("cpu"))
        for start in range(0, 5, size):
            part = slice(start, start + size)
            values = critic.values(ids[part], seen[part], 6)
            critic.fit(values, returns[part], mask[part], mask.sum())
        return [one.grad for one in critic.model.parameters() if one.grad is not None]

    for parts, whole in zip(gradients(2), gradients(5), strict=True):
        torch.testing.assert_close(parts, whole)


def test_a_critic_may_be_of_a_family_that_names_its_head_otherwise(tmp_path):
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": 200}
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(tmp_path)
    critic = Critic.load(str(tmp_path), 1e-3, 0, torch.device("cpu"))
    ids = torch.randint(3, 200, (2, 10))
    assert not critic.values(ids, torch.ones_like(ids), 6).any()


@pytest.fixture
def plan(policy, questions, served) -> Callable[..., PpoSettings]:
    def settings(out: Path) -> PpoSettings:
        return PpoSettings(
            model=str(policy),
            out=out,
            prompts=PromptFile(path=questions, max_prompts=8),
            side=None,
            service=Service(url=served.url, model="ensemble", aggregate="lcb", coefficient=1.0),
            batch_responses=4,
            accumulation=2,
            max_new_tokens=6,
            lr=1e-3,
            critic_lr=1e-3,
            updates=2,
            save_steps=2,
            precision="fp32",
            save_dtype="float32",
            log_to=[],
        )

    return settings


def test_a_critic_that_reads_other_words_is_refused(plan, policy, tmp_path):
    other = shutil.copytree(policy, tmp_path / "other")
    saved = json.loads((other / "tokenizer.json").read_text())
    vocab = saved["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (other / "tokenizer.json").write_text(json.dumps(saved))
    config = plan(tmp_path / "out").model_copy(update={"critic": str(other)})
    with pytest.raises(SettingsError, match="another vocabulary than the policy"):
        ppo(config)


def test_a_run_teaches_both_and_goes_on_where_it_was_broken_off(plan, tmp_path):
    whole = plan(tmp_path / "whole")
    ppo(whole)
    history = json.loads((whole.out / "curves.json").read_text())
    steps = [one for one in history if "critic/loss" in one]
    assert steps
    assert all(one["critic/loss"] > 0 for one in steps)
    broken = plan(tmp_path / "broken")
    with interrupted_after_first_state(broken.out):
        ppo(broken)
    ppo(broken)
    assert same(whole.out / "policy", broken.out / "policy")
