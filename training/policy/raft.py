"""``plaudit raft``: a policy tuned on the best of its own responses, again and again.

RAFT (arXiv:2304.06767): sample K responses of each prompt, score them by a running service, keep
the best, tune on those, repeat. Every stage leaves a file; a killed run goes on at the stage it was
in: give it the same plan again. With ``candidates`` the responses are given, and there is one
round without sampling.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from training import settings
from training.data.jsonlines import DataError
from training.data.splits import Split
from training.fine_tuning import FineTuning
from training.policy import (
    candidates,
    one_process,
    plan_file,
    prompts,
    raft_report,
    samples,
    scored,
    selection,
    tune,
)
from training.policy.candidates import Candidates
from training.policy.chat import Chat
from training.policy.prompts import Prompt, PromptFile
from training.policy.rewards import Service
from training.policy.sampling import Sampling
from training.shared_files import alone


class RaftTuning(FineTuning):
    """Of one round; the defaults are those of LMFlow's RAFT."""

    epochs: float = Field(4.0, gt=0, description="passes over what was kept")


class HeldOut(BaseModel):
    """Prompts of the test side that measure the policy before the first round and after each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: int = Field(200, ge=1, description="at most, chosen by digest")
    responses: int = Field(1, ge=1, description="to each")


class RaftPlan(BaseModel):
    """Everything that ``plaudit raft`` can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="directory or hub id of the first policy")
    out: Path = Field(description="directory of the run, one round-N each")
    service: Service = Field(description="who scores, {url, model, …}")
    prompts: PromptFile | None = Field(None, description="what to answer, {path, …}")
    candidates: list[Path] = Field([], description="files of given responses, instead of sampling")
    split: Split = Field(Split(), description="tune on train, measure on test")
    rounds: int = Field(20, ge=1, description="of sampling, scoring, keeping, tuning")
    prompts_per_round: int = Field(1024, ge=1, description="of the train side, in turn")
    sampling: Sampling = Field(Sampling(), description="how the policy answers")
    keep: Literal["local", "top"] = Field("local", description="best of each prompt, or of all")
    top_share: float = Field(0.2, gt=0, le=1, description="of all responses, with keep: top")
    min_characters: int = Field(2, ge=1, description="shorter responses are not kept")
    tuning: RaftTuning = Field(RaftTuning(), description="of each round")
    held_out: HeldOut | None = Field(HeldOut(), description="what measures; null: nothing")

    @model_validator(mode="after")
    def _answers_come_from_somewhere(self) -> "RaftPlan":
        if bool(self.candidates) == (self.prompts is not None):
            raise ValueError("give either prompts to sample responses to, or files of candidates")
        if self.candidates and (self.rounds > 1 or self.held_out is not None):
            raise ValueError(
                "candidates are given, so nothing is sampled: set rounds to 1 and held_out to null"
            )
        return self

    @model_validator(mode="after")
    def _likeliest_is_one(self) -> "RaftPlan":
        if (
            self.held_out is not None
            and self.held_out.responses > 1
            and not self.sampling.temperature
        ):
            raise ValueError(
                "temperature 0 gives the same response again: set held_out.responses to 1"
            )
        return self


@dataclass(frozen=True)
class Asked:
    """Prompts to learn on, and those that measure."""

    train: list[Prompt]
    held_out: list[Prompt]


def main(argv: Sequence[str]) -> int:
    raft(settings.of_command(RaftPlan, "plaudit raft", __doc__, argv))
    return 0


def raft(plan: RaftPlan) -> None:
    """Run what is missing of all rounds; ``OUT/rounds.json``, ``.md`` and ``.svg`` say what they
    came to."""
    one_process.require("plaudit raft")
    with alone(plan.out.resolve()):
        plan_file.record(plan, plan.out, inputs(plan))
        asked = read(plan)
        policy = plan.model
        revision = measure(plan, asked, 0, policy, None)
        for number in range(1, plan.rounds + 1):
            policy, revision = take_round(plan, asked, number, policy, revision)
            measure(plan, asked, number, policy, revision)
        raft_report.write(plan.out, plan.rounds, plan.held_out is not None)


def inputs(plan: RaftPlan) -> plan_file.Inputs:
    files = [*plan.candidates, *([] if plan.prompts is None else [plan.prompts.path])]
    return plan_file.digests([plan.model], files)


def read(plan: RaftPlan) -> Asked:
    if plan.prompts is None:
        return Asked([], [])
    chat = Chat.load(plan.model)
    loaded = prompts.load(plan.prompts.path)

    def of(side: Literal["train", "test"], count: int | None) -> list[Prompt]:
        assert plan.prompts is not None
        file = (
            plan.prompts
            if count is None
            else plan.prompts.model_copy(update={"max_prompts": count})
        )
        on_side = prompts.on_side(loaded, plan.split, side)
        return prompts.choose(on_side, file, lambda one: len(chat.prompt(one.turns)))

    held_out = [] if plan.held_out is None else of("test", plan.held_out.prompts)
    return Asked(of("train", None), held_out)


def take_round(
    plan: RaftPlan, asked: Asked, number: int, policy: str, revision: str | None
) -> tuple[str, str | None]:
    """The policy that a round leaves, and the revision of its rewards."""
    directory = plan.out / f"round-{number}"
    directory.mkdir(exist_ok=True)
    answered = sample(plan, asked, number, policy)
    judged = scored.make(directory / "scored.jsonl", answered, plan.service, revision)
    chosen = select(plan, directory / "kept.jsonl", judged)
    seed = plan.tuning.seed + number
    tuning = plan.tuning.model_copy(update={"seed": seed})
    tune.tune(policy, chosen, tuning, directory / "policy")
    return str(directory / "policy"), scored.revision_of(judged)


def sample(plan: RaftPlan, asked: Asked, number: int, policy: str) -> list[Candidates]:
    if plan.candidates:
        return given(plan)
    out = plan.out / f"round-{number}" / "samples.jsonl"
    sampling = plan.sampling.model_copy(update={"seed": plan.sampling.seed + number})
    some = prompts_of(asked.train, plan.prompts_per_round, number, plan.sampling.seed)
    return samples.make(out, some, policy, sampling)


def given(plan: RaftPlan) -> list[Candidates]:
    """The rows of all files that stand on the train side."""
    found = [candidates.load(path) for path in plan.candidates]
    for one in found:
        print(one.report(), file=sys.stderr)
    rows = [row for one in found for row in one.rows if plan.split.side(row) == "train"]
    if not rows:
        raise DataError("no candidates stand on the train side: lower split.test and .validation")
    return candidates.joined(rows)


def prompts_of(train: Sequence[Prompt], count: int, number: int, seed: int) -> list[Prompt]:
    """Those of a round: a walk through all in an order of its own, begun anew at the end."""
    order = np.random.default_rng(seed).permutation(len(train)).tolist()
    count = min(count, len(train))
    start = (number - 1) * count
    return [train[order[place % len(train)]] for place in range(start, start + count)]


def select(plan: RaftPlan, out: Path, judged: Sequence[Candidates]) -> list[Candidates]:
    if out.is_file():
        return candidates.read(out)
    if plan.keep == "local":
        chosen = selection.best_of_each(judged, plan.min_characters)
    else:
        chosen = selection.top_overall(judged, plan.min_characters, plan.top_share)
    if not chosen:
        raise DataError(f"{out}: no response is long enough and has a reward: nothing to keep")
    candidates.write(out, chosen)
    return chosen


def measure(
    plan: RaftPlan, asked: Asked, number: int, policy: str, revision: str | None
) -> str | None:
    """Sample and score a policy's answers to the held-out prompts; the revision of the rewards."""
    if plan.held_out is None:
        return revision
    directory = plan.out / "held-out"
    sampling = plan.sampling.model_copy(update={"responses": plan.held_out.responses})
    answered = samples.make(directory / f"samples-{number}.jsonl", asked.held_out, policy, sampling)
    out = directory / f"policy-{number}.jsonl"
    return scored.revision_of(scored.make(out, answered, plan.service, revision))
