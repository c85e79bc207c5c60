"""GRPO with a served reward, through a kill of the service."""

import json
import logging
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served_process import ServedProcess
from short_runs import interrupted_after_first_state, same
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import GRPOConfig

from plaudit.client import RewardClient
from plaudit.integrations.source import client_of
from training import settings
from training.policy import tuning
from training.policy.chat import Chat
from training.policy.group_trainer import GroupTrainer, cut
from training.policy.grpo import (
    GrpoSettings,
    arguments,
    dataset,
    grpo,
    reward_of,
    says,
    to_answer,
    trainer_of,
)
from training.policy.prompts import PromptFile
from training.policy.rewards import Service, as_it_is_now
from training.policy.rewards_ahead import WAIT_SHARE
from training.score.served import named
from training.settings import SettingsError


@pytest.fixture(scope="module")
def plan(policy, questions, served) -> Callable[..., GrpoSettings]:
    """``plan(out)``: settings of four steps on two prompts each."""

    def configured(out: Path, **changes: object) -> GrpoSettings:
        values: dict[str, object] = {
            "model": str(policy),
            "out": out,
            "prompts": PromptFile(path=questions, max_prompts=8),
            "side": None,
            "service": Service(url=served.url, model="ensemble", aggregate="uwo", coefficient=0.1),
            "responses": 4,
            "batch_responses": 4,
            "accumulation": 2,
            "max_new_tokens": 8,
            "lr": 1e-3,
            "precision": "fp32",
            "save_dtype": "float32",
            "log_to": [],
        }
        return GrpoSettings(**(values | changes))

    return configured


def steps_of(out: Path) -> list[dict[str, float]]:
    history = json.loads((out / "curves.json").read_text())
    return [one for one in history if "reward" in one]


class AtFirst(logging.Handler):
    """Does something at the first record, and counts them."""

    def __init__(self, act: Callable[[], None]):
        super().__init__()
        self.count = 0
        self._act = act

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        if self.count == 1:
            self._act()


class Kill(TrainerCallback):
    """Kills the service at the end of a step."""

    def __init__(self, served: ServedProcess, after_step: int):
        self._served, self._after = served, after_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._after:
            self._served.kill()


def ready(config: GrpoSettings) -> Any:
    chat = Chat.load(config.model)
    judge = named(config.service.url, config.service.model)
    return chat, to_answer(config, chat), reward_of(config.service, judge)


def test_a_killed_service_costs_waiting_and_not_the_run(plan, served, tmp_path):
    config = plan(tmp_path / "run")
    retries = logging.getLogger("plaudit")
    # It comes back once the client has met its absence.
    comeback = AtFirst(served.start)
    retries.addHandler(comeback)
    killed = Kill(served, after_step=2)
    try:
        chat, asked, reward = ready(config)
        trainer = trainer_of(config, chat, asked, reward)
        trainer.add_callback(killed)
        trainer.train()
    finally:
        retries.removeHandler(comeback)
        client_of(reward.source).close()
    served.wait()
    assert comeback.count > 0
    found = [one for one in trainer.state.log_history if "reward" in one]
    assert [one["step"] for one in found] == [1, 2, 3, 4]
    assert all(math.isfinite(one["reward"]) for one in found)
    assert all(one["plaudit/failed_share"] == 0 for one in found)
    assert found[2][WAIT_SHARE] > 0


def test_prompts_that_do_not_fill_a_step_are_refused_and_what_is_over_is_told(
    plan, questions, tmp_path, capsys
):
    few = plan(tmp_path / "few", prompts=PromptFile(path=questions, max_prompts=1))
    with pytest.raises(SettingsError, match="1 prompts do not fill a step, which takes 2"):
        grpo(few)
    odd = plan(tmp_path / "odd", prompts=PromptFile(path=questions, max_prompts=7))
    assert len(to_answer(odd, Chat.load(odd.model))) == 7
    assert "1 prompts over whole steps of 2" in capsys.readouterr().err


def test_a_run_names_what_an_ensemble_does_by_default(plan, served, tmp_path):
    unsaid = Service(url=served.url, model="ensemble")
    judge = named(served.url, "ensemble")
    now = as_it_is_now(unsaid, judge)
    assert (now.aggregate, now.coefficient) == ("mean", 0.5)
    assert says(now, judge) == f"{judge.revision}, mean, coefficient 0.5"
    said = plan(tmp_path / "out").service
    assert as_it_is_now(said, judge) == said


@pytest.fixture(scope="module")
def whole(plan, tmp_path_factory) -> GrpoSettings:
    config = plan(tmp_path_factory.mktemp("grpo") / "whole", save_steps=2)
    grpo(config)
    return config


def test_a_run_ends_with_a_policy_and_its_curves(whole):
    found = steps_of(whole.out)
    assert [one["step"] for one in found] == [1, 2, 3, 4]
    assert all(0 <= one[WAIT_SHARE] <= 1 for one in found)
    assert (whole.out / "curves.svg").read_text().startswith("<?xml")
    AutoModelForCausalLM.from_pretrained(whole.out / "policy")
    with pytest.raises(SettingsError, match="is there already; choose another out=DIR"):
        grpo(whole)


def test_the_reward_is_the_ensembles_with_its_penalty(plan, tmp_path, served):
    config = plan(tmp_path)
    _, _, reward = ready(config)
    turns = [{"role": "user", "content": "Question 1?"}]
    texts = ["Because it is so.", "No!!", ""]
    said = [[{"role": "assistant", "content": text}] for text in texts]
    noted: dict[str, float] = {}
    found = reward([turns] * 3, said, log_metric=noted.__setitem__)
    with RewardClient(served.url) as client:
        answer = client.ensemble_score([(turns, text) for text in texts], aggregate="mean")
    penalised = [m - 0.1 * v for m, v in zip(answer.mean[:2], answer.variance[:2], strict=True)]
    assert found == [pytest.approx(penalised[0]), pytest.approx(penalised[1]), None]
    assert noted["plaudit/failed_share"] == pytest.approx(1 / 3)
    client_of(reward.source).close()


def test_a_run_that_was_broken_off_goes_on_to_the_same_policy_and_no_other(plan, whole, tmp_path):
    broken = plan(tmp_path / "broken", save_steps=2)
    with interrupted_after_first_state(broken.out):
        grpo(broken)
    with pytest.raises(SettingsError, match=r"another plan .* lr is 0\.002, was 0\.001"):
        grpo(plan(broken.out, save_steps=2, lr=2e-3))
    grpo(broken)
    assert same(whole.out / "policy", broken.out / "policy")


def test_rewards_are_fetched_while_the_next_part_is_generated(plan, tmp_path):
    """The reward of the first part is not given before the second is being generated: one after
    the other, this would never end."""
    config = plan(tmp_path / "run", epochs=0.25)
    chat = Chat.load(config.model)
    generating = threading.Event()

    class Watched(GroupTrainer):
        parts = 0

        def _generate_single_turn(self, *arguments: Any, **named: Any) -> Any:
            self.parts += 1
            if self.parts == 2:
                generating.set()
            return super()._generate_single_turn(*arguments, **named)

    def reward(prompts, completions, log_metric):
        assert generating.wait(120)
        return [float(len(one[0]["content"])) for one in completions]

    trainer = Watched(
        reward,
        2,
        model=tuning.load(config, chat),
        args=GRPOConfig(**arguments(config)),
        train_dataset=dataset(to_answer(config, chat)),
        processing_class=chat.tokenizer,
    )
    trainer.train()
    assert trainer.parts == 2 * trainer.state.global_step == 2


def test_parts_keep_the_copies_of_a_prompt_together():
    prompts = [f"p{n // 4}" for n in range(20)]
    parts = list(cut(prompts, copies=4, parts=2))
    assert parts == [prompts[:12], prompts[12:]]
    assert list(cut(prompts, copies=4, parts=9)) == [prompts[n : n + 4] for n in range(0, 20, 4)]


def test_what_has_no_effect_on_an_answer_at_a_time_is_no_setting(tmp_path):
    told = ["model=m", f"out={tmp_path}", "prompts.path=p", "service.url=http://one"]
    with pytest.raises(SettingsError, match=r"unknown key 'service\.prompts_per_call'"):
        settings.load(GrpoSettings, None, [*told, "service.prompts_per_call=3"])


@pytest.mark.parametrize(
    ("save_steps", "updates", "nearest"), [(100, 3, 99), (101, 3, 102), (1, 4, 4)]
)
def test_states_stand_between_batches(plan, tmp_path, save_steps, updates, nearest):
    with pytest.raises(ValueError, match=f"save_steps={nearest} in the place of {save_steps}"):
        plan(tmp_path, save_steps=save_steps, updates=updates)
    assert plan(tmp_path, save_steps=nearest, updates=updates).save_steps == nearest


def test_whole_groups_are_asked_for(plan, tmp_path):
    with pytest.raises(ValueError, match="whole groups of 3"):
        plan(tmp_path, responses=3)
