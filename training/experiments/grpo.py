"""Does GRPO raise the reward of the judge it is given, and what does gold say?

SmolLM2-135M-Instruct answers prompts of RMB, a ``plaudit serve`` process rewards it, and both
judges score the answers of the first and of the tuned policy to held-out prompts.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluate.accuracy import Estimate
from training.experiments import judges
from training.experiments.judges import Judges
from training.experiments.own_answers import (
    SPLIT,
    answers,
    held_out,
    prompt_file,
)
from training.experiments.result import Result, table
from training.experiments.unseen import judged
from training.policy import curves, tuning
from training.policy.grpo import SHOWN, GrpoSettings, grpo
from training.policy.held_out import Answers, compare
from training.policy.prompts import PromptFile
from training.policy.rewards import Service
from training.policy.sampling import Sampling
from training.precision import measuring_dtype
from training.service_process import serving

FIRST, TUNED = "first", "tuned"
PROMPT_TOKENS = 48


@dataclass(frozen=True)
class Size:
    """A run: how many prompts it meets how often, so many in a step, each answered how often; and
    prompts that measure it."""

    prompts: int
    epochs: int
    prompts_per_step: int
    responses: int
    new_tokens: int
    train_layers: int
    lr: float
    held_out: int


FULL = Size(32, 10, 8, 8, 16, 8, 3e-4, 100)
QUICK = Size(2, 9, 2, 8, 8, 4, 1e-3, 4)


def run(data: Path, quick: bool, out: Path) -> Result:
    """Forty steps that meet each prompt ten times; ``quick``: nine on the same two."""
    size = QUICK if quick else FULL
    found = judges.make(data, out, quick)
    directory = out / ("grpo-quick" if quick else "grpo")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    config = tune(size, found, data, directory)
    history = json.loads((config.out / "curves.json").read_text())
    steps = [one for one in history if "reward" in one]
    measured = measure(size, found, config, directory)
    per_epoch = size.prompts // size.prompts_per_step
    gain = rise(history, per_epoch)
    held = claims(steps, gain, measured["proxy"][TUNED].less_first, quick)
    return Result(
        tables=[_steps(steps, per_epoch), _held_out(measured)],
        figure=curves.draw(history, SHOWN),
        figures={
            "size": vars(size),
            "judges": found.accuracies(),
            "steps": steps,
            "rise": gain,
            "held_out": {name: _summary(one) for name, one in measured.items()},
        },
        failures=[claim for claim, holds in held.items() if not holds],
    )


def tune(size: Size, found: Judges, data: Path, directory: Path) -> GrpoSettings:
    """On the rewards of a real service of the proxy."""
    with serving(found.proxy, directory / "service.log", "--dtype", measuring_dtype()) as url:
        config = GrpoSettings(
            model=str(found.base),
            out=directory / "run",
            prompts=PromptFile(
                path=prompt_file(data, directory),
                max_tokens=PROMPT_TOKENS,
                max_prompts=size.prompts,
            ),
            split=SPLIT,
            service=Service(url=url, truncation="left"),
            responses=size.responses,
            batch_responses=size.prompts_per_step * size.responses,
            epochs=size.epochs,
            max_new_tokens=size.new_tokens,
            train_layers=size.train_layers,
            lr=size.lr,
            beta=0.02,
            scheduler="constant",
            save_steps=10_000,
            log_to=[],
        )
        grpo(config)
    return config


def measure(
    size: Size, found: Judges, config: GrpoSettings, directory: Path
) -> dict[str, dict[str, Answers]]:
    """By judge, what it makes of either policy's answers to the same held-out prompts."""
    asked = held_out(config.prompts.path, found.base, size.held_out, PROMPT_TOKENS)
    how = Sampling(responses=2, max_new_tokens=size.new_tokens)
    policies = {FIRST: found.base, TUNED: config.out / tuning.POLICY}
    made = answers(policies, asked, how, directory / "answers")
    return {
        name: compare({policy: judged(judge, rows) for policy, rows in made.items()})
        for name, judge in found.both().items()
    }


def rise(history: Sequence[Mapping[str, Any]], per_epoch: int) -> float:
    """The mean reward of the last third of the epochs less that of the first, which has the same
    prompts; of a ``curves.json`` of a run with ``per_epoch`` steps to a visit of all prompts.

    There is no interval: the steps of a run follow from one another. How far another draw of
    prompts would differ, the held-out ones tell.
    """
    rewards = [one["reward"] for one in history if "reward" in one]
    third = max(1, len(rewards) // per_epoch // 3) * per_epoch
    return float(np.mean(rewards[-third:]) - np.mean(rewards[:third]))


def claims(
    steps: Sequence[Mapping[str, float]], gain: float, on_held_out: Estimate, quick: bool
) -> dict[str, bool]:
    found = {
        "every step has a finite reward": all(np.isfinite(one["reward"]) for one in steps),
        f"the reward rises over {len(steps)} steps": gain > 0,
    }
    beyond = {"the proxy's held-out reward rises, beyond its interval": on_held_out.low > 0}
    return found if quick else found | beyond


def _summary(found: Mapping[str, Answers]) -> dict[str, Any]:
    return {
        policy: {
            "reward": one.reward.value,
            "more": [one.less_first.value, one.less_first.low, one.less_first.high],
            "characters": one.characters,
            "finished": one.finished,
        }
        for policy, one in found.items()
    }


def _steps(steps: Sequence[Mapping[str, float]], per_epoch: int) -> str:
    """Means over each visit of the prompts."""
    rows = [
        [
            f"{start + 1} to {start + per_epoch}",
            *(
                f"{np.mean([one[what] for one in steps[start : start + per_epoch]]):.3f}"
                for what in SHOWN
            ),
        ]
        for start in range(0, len(steps), per_epoch)
    ]
    return table(["steps", *SHOWN.values()], rows)


def _held_out(measured: Mapping[str, Mapping[str, Answers]]) -> str:
    rows = [
        [
            judge,
            policy,
            f"{one.reward:.3f}",
            "" if policy == FIRST else f"{one.less_first:+.3f}",
            f"{one.characters:.0f}",
            f"{one.finished:.2f}",
        ]
        for judge, found in measured.items()
        for policy, one in found.items()
    ]
    header = ["judge", "policy", "reward, held out", "more", "characters", "finished"]
    return table(header, rows)
