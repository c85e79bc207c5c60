"""``plaudit iterate``: rounds of a judge that has seen the policy's own answers, and a policy that
learns from it.

Each round samples fresh responses of the policy, trains the judge anew with those as its unlabelled
set (MetaRM, arXiv:2405.00438), swaps it into the running service in the place of the last one, and
tunes the policy on its rewards: by GRPO, or by a preference loss on the fresh responses, labelled
by the judge. Every stage leaves a file; a killed run goes on at the stage it was in: give it the
same plan again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plaudit import checkpoint
from training import data_files, loggers, settings, train
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
# What the stages are plans of, with what is each round's own in them.
ROUND = "each round's"
POLICY = {"model": ROUND, "out": ROUND}
STAGES: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "generate": (GenerateSettings, POLICY),
    "judge": (TrainSettings, {"out": ROUND, "meta.path": ROUND}),
    "grpo": (GrpoSettings, POLICY | {"service.url": "http://each-round"}),
    "prefer": (PreferSettings, POLICY | {"sources": [{"name": "pairs", "path": ROUND}]}),
}


class IteratePlan(BaseModel):
    """Everything that ``plaudit iterate`` can be told: the plans of its stages are files of their
    own commands, in which model, out, url and the fresh responses are each round's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="directory or hub id of the first policy")
    out: Path = Field(description="directory of the run, one round-N each")
    rounds: int = Field(3, ge=1, description="how often the stages run, each on the policy before")
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
    for stage in stages(plan).values():
        loggers.require(stage)
    with alone(plan.out.resolve()):
        plan_file.record(recorded(plan), plan.out, inputs(plan))
        policy = plan.model
        with JudgeService(plan.out, plan.out / JUDGES, plan.port, plan.dtype) as service:
            for number in range(1, plan.rounds + 1):
                policy = take_round(plan, plan.out / f"round-{number}", policy, service)
    return Path(policy)


def recorded(plan: IteratePlan) -> dict[str, Any]:
    """The plan with those of its stages in the place of their files, so that a comment, or what has
    no effect, may change there."""
    plans = {name: one.model_dump(mode="json") for name, one in stages(plan).items()}
    return plan.model_dump(mode="json") | plans


def stages(plan: IteratePlan) -> dict[str, BaseModel]:
    """Plans of the stages, by name. A judge that is given has none."""
    found: dict[str, BaseModel] = {}
    for name, (kind, own) in STAGES.items():
        file = getattr(plan, name)
        if file is not None and not file.is_dir():
            found[name] = changed(kind, file, own)
    return found


def inputs(plan: IteratePlan) -> plan_file.Inputs:
    """The first policy, and what the stages read that is no round's own; a judge that is given."""
    found = stages(plan)
    bases = [plan.model]
    asking = [one for one in found.values() if isinstance(one, GenerateSettings | GrpoSettings)]
    files = [one.prompts.path for one in asking]
    judge = found.get("judge")
    if isinstance(judge, TrainSettings):
        bases.append(judge.model)
        files += [path for name, path in data_files.files(judge).items() if name != "meta"]
    else:
        files.append(plan.judge / checkpoint.MANIFEST)
    return plan_file.digests(bases, files)


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
    own: dict[str, Any] = {"model": policy, "out": str(directory / "tuning")}
    if plan.grpo is not None:
        grpo.grpo(changed(GrpoSettings, plan.grpo, own | {"service.url": url}))
        return
    assert plan.prefer is not None
    pairs = directory / "pairs.jsonl"
    if not pairs.exists():
        gap = ["--min-gap", str(plan.min_gap)]
        label.main([str(fresh), "--url", url, "--out", str(pairs), *gap])
    own["sources"] = [{"name": "pairs", "path": str(pairs)}]
    prefer.prefer(changed(PreferSettings, plan.prefer, own))


def changed(kind: type[Any], file: Path, values: Mapping[str, Any]) -> Any:
    """A plan of another command with what is this round's."""
    # Unescaped: YAML reads no pair of surrogates.
    given = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return settings.load(kind, file, given)
