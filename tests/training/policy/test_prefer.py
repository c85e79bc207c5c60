"""A policy tuned on pairs by each loss of the family, its curves, and a run that goes on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from training.data.sources import Source
from training.data.splits import Split
from training.policy.prefer import PreferSettings, prefer

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
