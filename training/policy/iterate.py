"""``plaudit iterate``: rounds of a judge that has seen the policy's own answers, and a policy that
learns from it.

Each round samples fresh responses of the policy, trains the judge anew with those as its unlabelled
set (MetaRM, arXiv:2405.00438), swaps it into the running service in the place of the last one, and
tunes the policy on its rewards: by GRPO, or by a preference loss on the fresh responses, labelled
by the judge. Every stage leaves a file; a killed run goes on at the stage it was in: give it the
same plan again.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plaudit import checkpoint
from training import settings, train
from training.data.sources import Source
from training.policy import generate, grpo, label, one_process, plan_file, prefer, tuning
from training.policy.generate import GenerateSettings
from training.policy.grpo import GrpoSettings
from training.policy.judge_service import JudgeService
from training.policy.prefer import PreferSettings
from training.settings import TrainSettings
from training.shared_files import alone
from training.termination import end_on_sigterm

# Where the judges lie, each under the name of its round: what the service may load.
JUDGES = "judges"


class IteratePlan(BaseModel):
    """Everything that ``plaudit iterate`` can be told: the plans of its stages are files of their
    own commands, in which model, out, url and the fresh responses are each round's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="directory or hub id of the first policy")
    out: Path = Field(description="directory of the run, one round-N each")
    rounds: int = Field(3, ge=1)
    generate: Path = Field(description="settings of plaudit generate: the fresh responses")
    judge: Path = Field(description="settings of plaudit train with meta, or a served checkpoint")
    grpo: Path | None = Field(None, description="settings of plaudit grpo, or else:")
    prefer: Path | None = Field(None, description="settings of plaudit prefer, on labelled pairs")
    min_gap: float = Field(0.0, ge=0, description="of pairs: the least difference of rewards")
    port: int = Field(8000, ge=1, le=65535, description="where every round's judge is served")
    dtype: str = Field("auto", description="of the service")

    @model_validator(mode="after")
    def _one_way_to_tune(self) -> "IteratePlan":
        if (self.grpo is None) == (self.prefer is None):
            raise ValueError("give either grpo or prefer: one way to tune the policy")
        return self


def main(argv: Sequence[str]) -> int:
    end_on_sigterm()  # and the service with it
    iterate(settings.of_command(IteratePlan, "plaudit iterate", __doc__, argv))
    return 0


def iterate(plan: IteratePlan) -> Path:
    """Run what is missing of all rounds; the last policy."""
    one_process.require("plaudit iterate")
    with alone(plan.out.resolve()):
        plan_file.record(plan, plan.out, inputs(plan))
        policy = plan.model
        with JudgeService(plan.out, plan.out / JUDGES, plan.port, plan.dtype) as service:
            for number in range(1, plan.rounds + 1):
                policy = take_round(plan, plan.out / f"round-{number}", policy, service)
    return Path(policy)


def inputs(plan: IteratePlan) -> plan_file.Inputs:
    """The first policy, the plans of the stages, and a judge that is given for all rounds."""
    judge = plan.judge / checkpoint.MANIFEST if plan.judge.is_dir() else plan.judge
    stages = (plan.generate, judge, plan.grpo, plan.prefer)
    return plan_file.digests([plan.model], [one for one in stages if one is not None])


def take_round(plan: IteratePlan, directory: Path, policy: str, service: JudgeService) -> str:
    """The policy that a round leaves. Its rewards are all of the round's judge: the tuning is
    pinned to that revision."""
    directory.mkdir(exist_ok=True)
    tuned = directory / "tuning" / tuning.POLICY
    if tuned.is_dir():
        return str(tuned)
    fresh = directory / "fresh.jsonl"
    responses = {"model": policy, "out": str(fresh)}
    generate.generate(changed(GenerateSettings, plan.generate, responses))
    judge = judge_of(plan, directory, fresh)
    tune(plan, directory, policy, fresh, service.of(judge))
    return str(tuned)


def judge_of(plan: IteratePlan, directory: Path, fresh: Path) -> Path:
    """Trained on what it was always trained on, and told apart what the policy says now."""
    if plan.judge.is_dir():
        return plan.judge
    out = plan.out / JUDGES / directory.name
    if not checkpoint.is_complete(out):
        changes = {"out": str(out), "meta.path": str(fresh)}
        train.train(changed(TrainSettings, plan.judge, changes), resume=True)
    return out


def tune(plan: IteratePlan, directory: Path, policy: str, fresh: Path, url: str) -> None:
    own = {"model": policy, "out": str(directory / "tuning")}
    if plan.grpo is not None:
        grpo.grpo(changed(GrpoSettings, plan.grpo, own | {"service.url": url}))
        return
    assert plan.prefer is not None
    pairs = directory / "pairs.jsonl"
    if not pairs.exists():
        gap = ["--min-gap", str(plan.min_gap)]
        label.main([str(fresh), "--url", url, "--out", str(pairs), *gap])
    config = changed(PreferSettings, plan.prefer, own)
    source = Source(name="pairs", path=pairs)
    prefer.prefer(config.model_copy(update={"sources": [source]}))


def changed(kind: type[Any], file: Path, values: dict[str, str]) -> Any:
    """A plan of another command with what is this round's."""
    return settings.load(
        kind, file, [f"{key}={json.dumps(value)}" for key, value in values.items()]
    )
