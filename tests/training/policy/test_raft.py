"""RAFT with a tiny policy and a real service: what it keeps, tunes and measures, and its kills."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl import SFTTrainer

from training.data.jsonlines import DataError
from training.data.splits import Split
from training.policy import candidates, raft_report, rewards, samples, selection, tune
from training.policy.candidates import Candidates
from training.policy.chat import Chat
from training.policy.raft import RaftPlan, RaftTuning, main, prompts_of, raft
from training.settings import SettingsError

SPLIT = Split(validation=0.1, test=0.3)


@pytest.fixture(scope="module")
def plan(policy, questions, service_url) -> Callable[..., RaftPlan]:
    """``plan(out)``: two rounds of six prompts, four responses each."""

    def make(out: Path, **changes: object) -> RaftPlan:
        values: dict[str, object] = {
            "model": str(policy),
            "out": out,
            "service": {"url": service_url},
            "prompts": {"path": questions},
            "split": SPLIT,
            "rounds": 2,
            "prompts_per_round": 6,
            "sampling": {"responses": 4, "max_new_tokens": 12, "dtype": "float32"},
            "tuning": {
                "epochs": 2, "lr": 3e-3, "batch_responses": 3, "precision": "fp32",
                "save_dtype": "float32", "save_steps": 2, "log_to": [],
            },
            "held_out": {"prompts": 4, "responses": 2},
        }  # fmt: skip
        return RaftPlan(**(values | changes))

    return make


@pytest.fixture(scope="module")
def whole(plan, tmp_path_factory) -> RaftPlan:
    found = plan(tmp_path_factory.mktemp("raft") / "whole")
    raft(found)
    return found


def made(out: Path) -> dict[str, bytes]:
    """Every file that a run leaves, but for its plan."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "plan.yaml"]
    return {str(p.relative_to(out)): p.read_bytes() for p in files if not p.name.startswith(".")}


def test_the_best_of_each_prompt_is_what_the_service_says(whole):
    directory = whole.out / "round-1"
    scored = candidates.read(directory / "scored.jsonl")
    kept = candidates.read(directory / "kept.jsonl")
    assert [one.responses for one in scored] == [
        one.responses for one in candidates.read(directory / "samples.jsonl")
    ]
    for one, best in zip(scored, kept, strict=True):
        assert best.prompt == one.prompt
        assert best.rewards == (max(reward for _, reward in one.known()),)
        assert best.responses == (one.responses[one.rewards.index(best.rewards[0])],)
    assert len({one.revision for one in scored}) == 1


def test_each_round_tunes_the_policy_of_the_one_before_on_prompts_of_its_own(whole):
    first, second = (
        candidates.read(whole.out / f"round-{number}" / "samples.jsonl") for number in (1, 2)
    )
    assert not {one.key for one in first} & {one.key for one in second}
    assert {SPLIT.side(one) for one in first + second} == {"train"}
    for number in (1, 2):
        directory = whole.out / f"round-{number}"
        before = whole.model if number == 1 else str(whole.out / "round-1" / "policy")
        rows = candidates.read(directory / "kept.jsonl")
        assert likelihood(str(directory / "policy"), rows) > likelihood(before, rows)
        assert len({path.stat().st_mode for path in (directory / "policy").iterdir()}) == 1


def test_frozen_weights_are_the_first_policys_to_the_bit_where_float32_is_saved(
    plan, whole, tmp_path
):
    config = plan(tmp_path).tuning.model_copy(update={"precision": "bf16", "train_layers": 1})
    rows = candidates.read(whole.out / "round-1" / "kept.jsonl")
    tune.tune(whole.model, rows, config, tmp_path / "policy")
    base, found = (
        AutoModelForCausalLM.from_pretrained(path).state_dict()
        for path in (whole.model, tmp_path / "policy")
    )
    frozen = [name for name in found if ".layers.0." in name]
    assert frozen
    assert all(torch.equal(found[name], base[name]) for name in frozen)


def likelihood(model: str, rows: list[Candidates]) -> float:
    """Mean log-probability of the responses' tokens, one at a time."""
    chat = Chat.load(model)
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    found = []
    with torch.inference_mode():
        for one in rows:
            prompt, ids = chat.prompt(one.prompt), chat.response(one.prompt, one.responses[0])
            logits = policy(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            found.append(logits.log_softmax(-1)[range(len(ids)), ids])
    return float(torch.cat(found).mean())


def test_the_held_out_prompts_measure_each_policy(whole):
    report = json.loads((whole.out / "rounds.json").read_text())
    assert list(report["policies"]) == ["0", "1", "2"]
    rows = candidates.read(whole.out / "held-out" / "policy-1.jsonl")
    assert {SPLIT.side(one) for one in rows} == {"test"}
    means = [sum(one.rewards) / 2 for one in rows]
    assert report["policies"]["1"]["reward"]["value"] == pytest.approx(sum(means) / len(means))
    assert report["policies"]["0"]["less_first"] == {"value": 0, "low": 0, "high": 0}
    assert "| 2 |" in (whole.out / "rounds.md").read_text()
    assert (whole.out / "rounds.svg").read_text().rstrip().endswith("</svg>")


class Killed(BaseException):
    """Stands for a signal that ends the process."""


# Where a run is killed, and at which call.
STAGES = {
    "sample": (samples, "make", 2),
    "score": (rewards, "score", 2),
    "select": (selection, "best_of_each", 2),
    "tune": (tune, "tune", 2),
    "a step behind a saved state": (SFTTrainer, "training_step", 4),
    "save": (tune, "save", 2),
    "report": (raft_report, "write", 1),
}


def is_text(path: str) -> bool:
    return not path.endswith(".safetensors")


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_was_killed_in_a_stage_comes_to_the_same_files(
    plan, whole, stage, tmp_path, monkeypatch
):
    broken = plan(tmp_path / "broken")
    module, name, last = STAGES[stage]
    real, calls = getattr(module, name), []

    def once_more(*arguments, **named):
        calls.append(name)
        if len(calls) == last:
            raise Killed
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, once_more)
        with pytest.raises(Killed):
            raft(broken)
    raft(broken)
    found, expected = made(broken.out), made(whole.out)
    assert sorted(found) == sorted(expected)
    assert [path for path in expected if is_text(path) and found[path] != expected[path]] == []
    for path in expected:
        if is_text(path):
            continue
        one, other = (load_file(directory / path) for directory in (broken.out, whole.out))
        assert all(torch.equal(one[key], other[key]) for key in other)


def test_a_finished_run_is_not_run_again_and_takes_no_other_plan(plan, whole):
    before = made(whole.out)
    raft(whole)
    assert made(whole.out) == before
    with pytest.raises(SettingsError, match="rounds is 3, was 2"):
        raft(plan(whole.out, rounds=3))
    (whole.out.parent / "other").mkdir(exist_ok=True)
    (whole.out.parent / "other" / "file").touch()
    with pytest.raises(SettingsError, match=r"holds file and no plan\.yaml"):
        raft(plan(whole.out.parent / "other"))


def test_given_candidates_are_scored_and_tuned_on_without_sampling(plan, policy, tmp_path, capsys):
    path = tmp_path / "given.jsonl"
    rows = [
        Candidates(({"role": "user", "content": f"Question {number}?"},), (f"A {i}", f"B {i} so"))
        for number in range(8)
        for i in (1, 2)
    ]
    candidates.write(path, rows)
    out = tmp_path / "out"
    given = plan(
        out, prompts=None, candidates=[path], rounds=1, held_out=None, keep="top", top_share=0.25
    )
    settings = tmp_path / "plan.yaml"
    settings.write_text(given.model_dump_json())
    assert main([str(settings)]) == 0
    scored = candidates.read(out / "round-1" / "scored.jsonl")
    assert {len(one.responses) for one in scored} == {4}
    assert {SPLIT.side(one) for one in scored} == {"train"}
    every = sorted(reward for one in scored for _, reward in one.known())
    kept = candidates.read(out / "round-1" / "kept.jsonl")
    assert sorted(reward for one in kept for _, reward in one.known()) == every[-len(scored) :]
    assert not (out / "round-1" / "samples.jsonl").exists()
    assert (out / "round-1" / "policy" / "config.json").is_file()
    assert "| 1 |" in capsys.readouterr().out


def test_plans_that_cannot_be_are_refused(plan, tmp_path):
    with pytest.raises(ValueError, match="either prompts to sample responses to, or files"):
        plan(tmp_path, prompts=None)
    with pytest.raises(ValueError, match="nothing is sampled"):
        plan(tmp_path, prompts=None, candidates=[tmp_path])
    with pytest.raises(ValueError, match=r"set held_out\.responses to 1"):
        plan(
            tmp_path,
            sampling={"responses": 1, "temperature": 0},
            held_out={"prompts": 4, "responses": 2},
        )
    with pytest.raises(DataError, match="none of 0 prompts"):
        raft(plan(tmp_path / "out", split=Split(validation=0, test=0)))


def test_rounds_walk_through_all_prompts():
    train = [*range(10)]
    walked = [one for number in (1, 2, 3, 4, 5) for one in prompts_of(train, 4, number, seed=1)]
    assert sorted(walked) == sorted(train * 2)
    assert sorted(prompts_of(train, 99, 3, seed=1)) == train


def test_a_response_that_was_cut_teaches_no_end(policy):
    chat = Chat.load(str(policy))
    rows = [Candidates(({"role": "user", "content": "Hi"},), ("So", "So"), finished=(True, False))]
    ended, cut = tune.examples(rows, chat)
    assert ended["input_ids"] == [*cut["input_ids"], chat.tokenizer.eos_token_id]
    shown = [i for i, own in zip(ended["input_ids"], ended["completion_mask"], strict=True) if own]
    assert chat.tokenizer.decode(shown) == "So<|im_end|>"


def test_the_loss_is_of_the_responses_alone(policy, tmp_path):
    chat = Chat.load(str(policy))
    config = RaftTuning(batch_responses=2, log_to=[], precision="fp32")
    turns = ({"role": "user", "content": "Hi"},)
    rows = [Candidates(turns, ("So", "Because it is"), finished=(True, False))]
    trainer = tune.trainer_of(tune.load(str(policy), chat, config), rows, chat, config, tmp_path)
    (batch,) = trainer.get_train_dataloader()
    learnt = {chat.tokenizer.decode(labels[labels != -100]) for labels in batch["labels"]}
    assert learnt == {"So<|im_end|>", "Because it is"}


def test_the_defaults_of_a_round_are_those_of_lmflow():
    assert (RaftTuning().epochs, RaftTuning().lr) == (4, 2e-5)
