"""A policy tuned on pairs by each loss of the family, its curves, and a run that goes on."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from short_runs import interrupted_after_first_state, same, weights
from transformers import AutoModelForCausalLM

from plaudit.conversation import Encoder
from training.data import sources
from training.data.shapes import Pair
from training.data.sources import Source
from training.data.splits import Split
from training.method_settings import Lora
from training.policy.chat import Chat
from training.policy.prefer import PreferSettings, prefer, sides, trainer_of
from training.policy.preference_rows import singles
from training.settings import SettingsError
from training.training_data import read

SPLIT = Split(validation=0.3, test=0.1)


@pytest.fixture(scope="module")
def plan(policy, easy_pairs) -> Callable[..., PreferSettings]:
    """``plan(out, loss)``: settings of a tuning of a few steps on easy pairs."""

    def settings(out: Path, **changes: object) -> PreferSettings:
        values: dict[str, object] = {
            "model": str(policy),
            "out": out,
            "sources": [Source(name="easy", path=easy_pairs)],
            "split": SPLIT,
            "loss": "dpo",
            "epochs": 3,
            "lr": 2e-3,
            "batch_responses": 16,
            "precision": "fp32",
            "save_dtype": "float32",
            "save_steps": 4,
            "eval_steps": 6,
            "log_to": [],
        }
        return PreferSettings(**(values | changes))

    return settings


@pytest.mark.parametrize("loss", ["dpo", "ipo", "kto", "orpo", "simpo"])
def test_each_loss_tells_chosen_from_rejected(plan, tmp_path, loss):
    config = plan(tmp_path / "run", loss=loss)
    prefer(config)
    history = json.loads((config.out / "curves.json").read_text())
    measured = [one for one in history if "eval_loss" in one]
    chosen, rejected = (measured[-1][f"eval_rewards/{side}"] for side in ("chosen", "rejected"))
    assert chosen > rejected
    assert measured[-1]["eval_loss"] < measured[0]["eval_loss"]
    AutoModelForCausalLM.from_pretrained(config.out / "policy")


def test_a_run_that_was_broken_off_goes_on_to_the_same_policy(plan, tmp_path):
    whole, broken = plan(tmp_path / "whole"), plan(tmp_path / "broken")
    prefer(whole)
    with interrupted_after_first_state(broken.out):
        prefer(broken)
    with pytest.raises(SettingsError, match=r"another plan or other inputs: beta is 0\.3"):
        prefer(plan(broken.out, beta=0.3))
    prefer(broken)
    assert same(whole.out / "policy", broken.out / "policy")


def test_adapters_are_merged_into_the_policy(plan, tmp_path, policy):
    """The saved weights are whole: the same names as the first policy's, and others of them."""
    config = plan(tmp_path / "run", lora=Lora(r=4), epochs=1)
    prefer(config)
    before, after = weights(policy), weights(config.out / "policy")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_adapters_follow_from_the_seed_alone(plan, tmp_path):
    """Whatever was drawn in the process before."""
    config = plan(tmp_path / "run", loss="orpo", lora=Lora(r=4))
    drawn = []
    for before in (1, 2):
        torch.manual_seed(before)
        model = trainer_of(config, Chat.load(config.model), read(config)).model
        drawn.append({n: p.detach().clone() for n, p in model.named_parameters() if "lora_A" in n})
    assert drawn[0]
    assert all(torch.equal(drawn[1][name], found) for name, found in drawn[0].items())


def test_both_blocks_and_adapters_are_refused(plan, tmp_path):
    with pytest.raises(SettingsError, match="keep one"):
        prefer(plan(tmp_path / "run", lora=Lora(), train_layers=1))


def test_both_limits_of_a_source_choose_the_pairs_that_are_trained_on(plan, easy_pairs, tmp_path):
    def chosen(**limits: int) -> list[Pair]:
        source = Source(name="easy", path=easy_pairs, **limits)
        config = plan(tmp_path / "run", sources=[source])
        tokenizer = Chat.load(config.model).tokenizer
        encoder = Encoder(tokenizer, len(tokenizer), config.max_tokens)
        return sides(config, read(config), encoder)[0]

    every = chosen()
    fewer = chosen(pairs_per_prompt=1)
    assert Counter(pair.turns for pair in fewer) == dict.fromkeys((p.turns for p in every), 1)
    assert len(chosen(pairs_per_prompt=1, max_pairs=3)) == 3


@pytest.mark.parametrize("column", [{"soft_label": 0.9}, {"target_margin": 0.5}])
def test_labels_that_no_loss_reads_are_refused_before_a_run_begins(plan, tmp_path, column):
    path = tmp_path / "graded.jsonl"
    plain = {"prompt": "Why?", "chosen": "Because.", "rejected": "No!!"}
    # As plaudit strength writes them: a hard label without a margin.
    whole = plain | {"soft_label": 1.0, "target_margin": 0.0}
    path.write_text("".join(json.dumps(row) + "\n" for row in (plain, whole, plain | column)))
    config = plan(tmp_path / "run", sources=[Source(name="graded", path=path)])
    with pytest.raises(SettingsError, match=r"graded\.jsonl: 1 of 3 pairs have a soft_label"):
        prefer(config)
    assert not config.out.exists()


def test_kto_meets_as_many_of_both_kinds_and_neighbours_of_other_prompts(easy_pairs):
    pairs = sources.load(Source(name="easy", path=easy_pairs)).pairs[::2]
    rows = singles(pairs, seed=1)
    assert len(rows) == 2 * len(pairs)
    assert {(pair.first_turn, label) for pair, label in rows} == {
        (pair.first_turn, label) for pair in pairs for label in (True, False)
    }
    for one, other in pairwise(rows[: len(pairs)]):
        assert one[1] != other[1]
        assert one[0].prompt != other[0].prompt
