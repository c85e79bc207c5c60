"""RRHF: its loss by hand, the likelihoods by plain Transformers, and a run with a real service."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import architectures
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from training.data.jsonlines import DataError
from training.data.splits import Split
from training.fine_tuning import FineTuning
from training.policy import candidates, rewards, rrhf_report, tune
from training.policy import rrhf as rrhf_module
from training.policy.candidates import Candidates
from training.policy.chat import Chat
from training.policy.likelihood import AnswerBatch, mean_log_probabilities, of_all
from training.policy.own_accuracy import ordered
from training.policy.rrhf import RrhfPlan, RrhfTuning, answers, main, rrhf
from training.policy.rrhf_loss import rrhf as loss_of
from training.policy.rrhf_trainer import examples, trainer

SPLIT = Split(validation=0.1, test=0.3)


def told(p: list[float], r: list[float], prompt: list[int]) -> tuple[float, float]:
    found = loss_of(torch.tensor(p), torch.tensor(r), torch.tensor(prompt))
    return found.ranking.item(), found.likelihood.item()


def test_responses_in_the_order_of_their_rewards_cost_no_ranking():
    assert told([-3.0, -2.0, -1.0], [0.1, 0.2, 5.0], [0, 0, 0]) == (0.0, 1.0)


def test_every_pair_in_the_wrong_order_costs_what_it_is_apart():
    # r: b < c < a. Wrong: (b, c) by 1, (b, a) by 2.5, (c, a) by 1.5. The best is a.
    ranking, likelihood = told([-3.0, -0.5, -1.5], [9.0, 1.0, 2.0], [0, 0, 0])
    assert (ranking, likelihood) == (pytest.approx(1 + 2.5 + 1.5), 3.0)


def test_equal_rewards_rank_nothing_and_the_first_of_them_is_the_best():
    assert told([-3.0, -1.0], [2.0, 2.0], [0, 0]) == (0.0, 3.0)


def test_prompts_do_not_rank_one_another_and_weigh_the_same():
    # 0: wrong by 2, best -3. 1: one response, which is its best.
    ranking, likelihood = told([-1.0, -9.0, -3.0], [0.0, 5.0, 1.0], [0, 1, 0])
    assert (ranking, likelihood) == (1.0, 6.0)


def test_the_gradient_moves_the_pairs_in_the_wrong_order_alone():
    p = torch.tensor([-3.0, -0.5, -1.5], requires_grad=True)
    loss_of(p, torch.tensor([9.0, 1.0, 2.0]), torch.zeros(3)).ranking.backward()
    # b is above c and a, c above a
    assert p.grad is not None
    assert p.grad.tolist() == [-2.0, 2.0, 0.0]


ANSWERS = [
    (list(range(5, 25)), [30, 31, 32, 2]),
    (list(range(5, 25)), [30, 40, 2]),
    (list(range(5, 25)), [2]),
    ([7, 8], [30, 31, 32, 33, 2]),
    (list(range(5, 40)), [50, 51]),
]


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "olmo2"])
def test_likelihoods_are_those_of_one_response_at_a_time(name):
    config = deepcopy((architectures.PACKED | architectures.PADDED)[name])
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).eval()
    found = torch.tensor(of_all(model, ANSWERS, max_tokens=64))
    model.set_attn_implementation("eager")
    expected = []
    for prompt, response in ANSWERS:
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        own = logits.log_softmax(-1)[range(len(response)), response]
        expected.append(own.sum() / len(response))
    torch.testing.assert_close(found, torch.stack(expected), atol=2e-5, rtol=0)


def test_a_shared_prompt_is_computed_once():
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(deepcopy(architectures.PACKED["llama"]))
    batch = AnswerBatch.of(model, ANSWERS[:3])
    assert batch.inputs["input_ids"].shape == (1, 20 + 4 + 3 + 1)
    assert mean_log_probabilities(model, batch).requires_grad


def row(name: str, responses: tuple[str, ...], rewards: tuple[float | None, ...]) -> Candidates:
    return Candidates(({"role": "user", "content": name},), responses, rewards=rewards)


def test_pairs_are_right_where_the_better_response_is_likelier():
    rows = [
        row("a", ("x", "y", "z"), (1.0, 2.0, 3.0)),
        row("b", ("x", "y"), (1.0, 1.0)),
        row("c", ("x", "y", "z"), (None, 2.0, 0.0)),
    ]
    # a: x < y right, x < z wrong, y < z wrong. b: equal rewards. c: y > z a tie.
    before = [[-3.0, -2.0, -4.0], [-1.0, -2.0], [-9.0, -1.0, -1.0]]
    after = [[-3.0, -2.0, None], [-1.0, -2.0], [-9.0, -1.0, -2.0]]
    found = ordered(rows, {"before": before})
    assert (found["before"].accuracy.value, found["before"].pairs) == (0.25, 4)
    assert ordered(rows, {"after": after})["after"].accuracy.value == 1.0
    with pytest.raises(DataError, match="no held-out prompt has two responses"):
        ordered(rows[1:2], {"before": [[-1.0, -2.0]]})


def test_what_has_no_reward_or_is_too_long_is_not_learnt(policy):
    chat = Chat.load(str(policy))
    rows = [row("a", ("x", "y", "z" * 90), (None, 2.0, 1.0)), row("b", ("x",), (None,))]
    (found,) = examples(rows, chat, max_tokens=80)
    assert found["rewards"] == [2.0]
    assert chat.text(found["responses"][0]) == "y"


def test_the_end_of_a_response_that_was_cut_is_neither_learnt_nor_measured(policy):
    chat = Chat.load(str(policy))
    cut = replace(row("a", ("So it", "No", ""), (1.0, 2.0, 0.0)), finished=(False, True, False))
    (found,) = examples([cut], chat, max_tokens=80)
    assert [[one in chat.ends for one in ids].count(True) for ids in found["responses"]] == [0, 1]
    measured = answers(chat, cut, 80)
    assert measured[2] is None
    assert [ids for one in measured[:2] if one for ids in one[1:]] == found["responses"]


@pytest.fixture(scope="module")
def given(questions, tmp_path_factory) -> Path:
    """Three responses to each prompt, of two sources, which the policy begins by ordering at
    random."""
    path = tmp_path_factory.mktemp("given") / "given.jsonl"
    asked = [json.loads(line)["prompt"] for line in questions.read_text().splitlines()]
    texts = ("Because it is so.", "Ask me again", "Never")
    candidates.write(path, [Candidates(tuple(turns), texts, ("m", "m", "n")) for turns in asked])
    return path


@pytest.fixture(scope="module")
def plan(policy, given, service_url) -> Callable[..., RrhfPlan]:
    def make(out: Path, **changes: object) -> RrhfPlan:
        values: dict[str, object] = {
            "model": str(policy),
            "out": out,
            "service": {"url": service_url},
            "candidates": [given],
            "split": SPLIT,
            "tuning": {
                "epochs": 6, "lr": 3e-3, "batch_responses": 12, "precision": "fp32",
                "save_dtype": "float32", "save_steps": 3, "log_to": [],
            },
        }  # fmt: skip
        return RrhfPlan(**(values | changes))

    return make


@pytest.fixture(scope="module")
def whole(plan, tmp_path_factory) -> RrhfPlan:
    found = plan(tmp_path_factory.mktemp("rrhf") / "whole")
    rrhf(found)
    return found


def test_the_likelihood_learns_the_order_of_the_rewards(whole):
    found = json.loads((whole.out / "rrhf.json").read_text())
    before, after = (found[name]["accuracy"]["value"] for name in ("before", "after"))
    # From one half to all of 18 pairs, so that some may fall otherwise on another machine.
    assert after > 0.8
    assert after - before > 0.2
    assert found["after"]["less_first"]["low"] > 0
    assert "| after |" in (whole.out / "rrhf.md").read_text()


class Killed(BaseException):
    """Stands for a signal that ends the process."""


STAGES = {
    "score": (rewards, "score"),
    "tune": (rrhf_module, "optimise"),
    "save": (tune, "save"),
    "measure": (rrhf_report, "write"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_was_killed_in_a_stage_comes_to_the_same(
    plan, whole, stage, tmp_path, monkeypatch
):
    broken = plan(tmp_path / "broken")
    module, name = STAGES[stage]
    with monkeypatch.context() as patch:

        def kill(*arguments: object) -> None:
            raise Killed

        patch.setattr(module, name, kill)
        with pytest.raises(Killed):
            rrhf(broken)
    rrhf(broken)
    one, other = (load_file(c.out / "policy" / "model.safetensors") for c in (broken, whole))
    assert all(torch.equal(one[key], other[key]) for key in other)
    for file in ("scored.jsonl", "likelihood-before.json", "likelihood-after.json", "rrhf.json"):
        assert (broken.out / file).read_bytes() == (whole.out / file).read_bytes()


def test_candidates_that_measure_nothing_are_refused_before_the_tuning(plan, given, tmp_path):
    rows = [one.keep([0]) if SPLIT.side(one) == "test" else one for one in candidates.read(given)]
    candidates.write(tmp_path / "given.jsonl", rows)
    config = plan(tmp_path / "out", candidates=[tmp_path / "given.jsonl"])
    with pytest.raises(DataError, match="no held-out prompt has two responses"):
        rrhf(config)
    assert not (config.out / "policy").exists()


def test_states_that_a_kill_left_beside_a_policy_go(tmp_path):
    out = tmp_path / "policy"
    tune.states_of(out).mkdir()
    assert not tune.is_done(out)
    assert tune.states_of(out).is_dir()
    out.mkdir()
    assert tune.is_done(out)
    assert not tune.states_of(out).exists()


def test_own_samples_stand_beside_given_candidates(plan, questions, tmp_path):
    config = plan(
        tmp_path / "out",
        prompts={"path": questions},
        sampling={"responses": 2, "max_new_tokens": 8},
    )
    settings = tmp_path / "plan.yaml"
    settings.write_text(config.model_dump_json())
    assert main([str(settings), "tuning.epochs=1"]) == 0
    rows = candidates.read(config.out / "scored.jsonl")
    assert {one.sources[:3] for one in rows} == {("m", "m", "n")}
    assert {source for one in rows for source in one.sources} == {"m", "n", "policy"}
    assert len(rows) == 24


def test_a_step_of_several_forwards_is_that_of_one(policy, tmp_path):
    """Weights after one step do not depend on how its prompts are spread over forwards."""
    chat = Chat.load(str(policy))
    rows = [row(f"Q {n}", ("Yes, so", "No"), (float(n % 2), 0.5)) for n in range(4)]
    learnt = examples(rows, chat, 99)
    found = []
    for batch, accumulation in ((8, 1), (2, 4)):
        config = FineTuning(
            batch_responses=batch, accumulation=accumulation, precision="fp32", log_to=[],
            lr=1e-3, warmup=0, scheduler="constant",
        )  # fmt: skip
        model = tune.load(str(policy), chat, config)
        run = trainer(model, learnt, config, 1.0, tmp_path / f"{batch}")
        run.train()
        assert run.state.global_step == 1
        found.append({k: v.clone() for k, v in model.state_dict().items()})
    one, other = found
    assert max((one[key] - other[key]).abs().max().item() for key in one) < 1e-4


def test_the_defaults_are_the_papers():
    made = RrhfTuning()
    assert (made.epochs, made.lr, made.warmup) == (3, 2e-5, 0.03)
    assert RrhfPlan.model_fields["rank_weight"].default == 1.0
