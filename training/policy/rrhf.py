"""``plaudit rrhf``: a policy whose own likelihood is to order responses as a service's rewards do.

RRHF (arXiv:2304.05302): several candidates of several sources to each prompt, a ranking hinge over
all pairs of their length-normalised log-probabilities, and the likelihood of the best. Candidates
are given in files, sampled from the policy, or both. Every stage leaves a file; a killed run goes
on at the stage it was in: give it the same plan again.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator
from transformers import set_seed

from plaudit.whole_file import write_whole
from training import settings
from training.data.jsonlines import DataError
from training.data.splits import Split
from training.fine_tuning import FineTuning
from training.policy import (
    candidates,
    likelihood,
    one_process,
    own_accuracy,
    plan_file,
    prompts,
    rrhf_report,
    rrhf_trainer,
    samples,
    scored,
    tune,
)
from training.policy.candidates import Candidates
from training.policy.chat import Chat
from training.policy.likelihood import Answer
from training.policy.own_accuracy import Likelihoods
from training.policy.prompts import PromptFile
from training.policy.rewards import Service
from training.policy.sampling import FewSamples
from training.shared_files import alone

# Tokens of one measuring forward.
TOGETHER = 4096


class RrhfTuning(FineTuning):
    """The defaults are the paper's, whose batch was 64 prompts."""

    epochs: float = Field(3.0, gt=0, description="passes over the candidates")
    warmup: float = Field(0.03, ge=0, lt=1, description="share of steps that warm up")
    batch_responses: int = Field(32, ge=1, description="responses in one forward, whole prompts")


class RrhfPlan(BaseModel):
    """Everything that ``plaudit rrhf`` can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="directory or hub id of the policy")
    out: Path = Field(description="directory of the run")
    service: Service = Field(description="who ranks, {url, model, …}")
    candidates: list[Path] = Field([], description="files of responses, of any sources")
    prompts: PromptFile | None = Field(None, description="sample responses to these too, {path, …}")
    sampling: FewSamples = Field(FewSamples(), description="how the policy answers")
    split: Split = Field(Split(), description="tune on train, measure on test")
    max_tokens: int = Field(512, ge=8, description="longer prompts with responses are left out")
    rank_weight: float = Field(1.0, ge=0, description="of the ranking; the likelihood's is 1")
    tuning: RrhfTuning = Field(RrhfTuning(), description="how the weights are changed")

    @model_validator(mode="after")
    def _has_candidates(self) -> "RrhfPlan":
        if not self.candidates and self.prompts is None:
            raise ValueError("give files of candidates, prompts to sample responses to, or both")
        return self


def main(argv: Sequence[str]) -> int:
    rrhf(settings.of_command(RrhfPlan, "plaudit rrhf", __doc__, argv))
    return 0


def rrhf(plan: RrhfPlan) -> None:
    """Run what is missing up to ``OUT/policy``; ``OUT/rrhf.json`` and ``.md`` tell its worth."""
    one_process.require("plaudit rrhf")
    with alone(plan.out.resolve()):
        plan_file.record(plan, plan.out, inputs(plan))
        judged = scored.make(plan.out / "scored.jsonl", gathered(plan), plan.service)
        held_out = [one for one in judged if plan.split.side(one) == "test"]
        train = [one for one in judged if plan.split.side(one) == "train"]
        before = measure(plan, plan.model, held_out, plan.out / "likelihood-before.json")
        own_accuracy.ordered(held_out, {"before": before})  # or refused now, not after the tuning
        optimise(plan, train, plan.out / "policy")
        policy = str(plan.out / "policy")
        after = measure(plan, policy, held_out, plan.out / "likelihood-after.json")
        rrhf_report.write(plan.out, held_out, {"before": before, "after": after})


def inputs(plan: RrhfPlan) -> plan_file.Inputs:
    files = [*plan.candidates, *([] if plan.prompts is None else [plan.prompts.path])]
    return plan_file.digests([plan.model], files)


def gathered(plan: RrhfPlan) -> list[Candidates]:
    """Given candidates and the policy's own, one row a prompt."""
    rows: list[Candidates] = []
    for path in plan.candidates:
        found = candidates.load(path)
        print(found.report(), file=sys.stderr)
        rows += found.rows
    if plan.prompts is not None:
        chat = Chat.load(plan.model)
        chosen = prompts.choose(
            prompts.load(plan.prompts.path),
            plan.prompts,
            lambda one: len(chat.prompt(one.turns)),
        )
        rows += samples.make(plan.out / "samples.jsonl", chosen, plan.model, plan.sampling)
    return candidates.joined(rows)


def optimise(plan: RrhfPlan, rows: Sequence[Candidates], out: Path) -> None:
    """Write the tuned policy to ``out``, which is kept where it is there already."""
    if tune.is_done(out):
        return
    chat = Chat.load(plan.model)
    examples = rrhf_trainer.examples(rows, chat, plan.max_tokens)
    if not examples:
        raise DataError(
            f"no candidate of the train side has a reward and at most {plan.max_tokens} tokens; "
            "raise max_tokens, or lower split.test and .validation"
        )
    policy = tune.load(plan.model, chat, plan.tuning)
    set_seed(plan.tuning.seed)
    trainer = rrhf_trainer.trainer(
        policy, examples, plan.tuning, plan.rank_weight, tune.states_of(out)
    )
    tune.complete(trainer, chat, plan.tuning, out)


def measure(plan: RrhfPlan, model: str, rows: Sequence[Candidates], out: Path) -> Likelihoods:
    """The policy's own likelihood of each response, null where it is too long."""
    if not out.is_file():
        chat = Chat.load(model)
        policy = likelihood.load(model, chat)
        found = [answers(chat, one, plan.max_tokens) for one in rows]
        fit = [answer for some in found for answer in some if answer is not None]
        known = iter(likelihood.of_all(policy, fit, TOGETHER))
        by_row = [[None if one is None else next(known) for one in some] for some in found]
        write_whole(out, json.dumps(by_row).encode())
    read: Likelihoods = json.loads(out.read_text())
    return read


def answers(chat: Chat, row: Candidates, max_tokens: int) -> list[Answer | None]:
    """None of a response that is too long, or was cut before its first token."""
    prompt = chat.prompt(row.prompt)
    encoded = [chat.response(row.prompt, *one) for one in row.ended()]
    return [
        (prompt, ids) if ids and len(prompt) + len(ids) <= max_tokens else None for ids in encoded
    ]
