"""``plaudit compare``: two policies' answers to the same prompts, scored by a running service.

Their reward distributions are drawn with one sample and with the best of several, and once more
with what the length of a response alone explains taken off. A policy may also be given as a file of
candidates (.jsonl), of which nothing is sampled.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training import settings
from training.data.splits import Name, Split
from training.policy import candidates, compare_report, plan_file, prompts, samples, scored
from training.policy.candidates import Candidates
from training.policy.chat import Chat
from training.policy.prompts import PromptFile
from training.policy.rewards import Service
from training.policy.sampling import FewSamples
from training.shared_files import alone


class CompareSettings(BaseModel):
    """Everything that ``plaudit compare`` can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: str = Field(description="a policy, or its answers in a .jsonl file")
    second: str = Field(description="what it is compared with")
    out: Path = Field(description="directory of answers, table and drawing")
    service: Service = Field(description="who scores, {url, model, …}")
    prompts: PromptFile | None = Field(None, description="what policies are asked, {path, …}")
    split: Split = Field(Split(), description="which prompts stand on which side")
    side: Name | None = Field("test", description="ask the prompts of this side; null: all")
    samples: list[int] = Field([1, 4], min_length=1, description="of how many the best is taken")
    sampling: FewSamples = Field(FewSamples(), description="how policies answer")
    names: tuple[str, str] = Field(("first", "second"), description="in the table and the drawing")

    @model_validator(mode="after")
    def _has_enough(self) -> "CompareSettings":
        if min(self.samples) < 1 or self.names[0] == self.names[1]:
            raise ValueError("samples are at least 1, and the names differ")
        if any(name in ("", ".", "..") or "/" in name for name in self.names):
            raise ValueError(
                "names are those of files in OUT too: leave / out of them, and none empty"
            )
        policies = [one for one in (self.first, self.second) if not is_file(one)]
        if policies and self.prompts is None:
            raise ValueError(f"{policies[0]} is a policy: say what to ask it, prompts.path=FILE")
        if policies and self.sampling.responses < max(self.samples):
            raise ValueError(
                f"the best of {max(self.samples)} needs as many: raise sampling.responses"
            )
        return self


def main(argv: Sequence[str]) -> int:
    parser = settings.parser_of(CompareSettings, "plaudit compare", __doc__)
    parser.add_argument("first", help="a policy, or its answers in a .jsonl file")
    parser.add_argument("second", help="what it is compared with")
    parser.add_argument(
        "settings", nargs="+", metavar="FILE|key=value", help="YAML file of settings, overrides"
    )
    given = parser.parse_args(argv)
    policies = [f"first={given.first}", f"second={given.second}"]
    file, overrides = settings.file_and_overrides(given.settings)
    compare(settings.load(CompareSettings, file, [*policies, *overrides]))
    return 0


def compare(config: CompareSettings) -> None:
    """Sample and score what is missing; write ``OUT/comparison.json``, ``.md`` and ``.svg``."""
    with alone(config.out.resolve()):
        plan_file.record(config, config.out, inputs(config))
        found: dict[str, list[Candidates]] = {}
        revision = None
        for name, policy in zip(config.names, (config.first, config.second), strict=True):
            answered = answers(config, policy, config.out / f"{name}.samples.jsonl")
            out = config.out / f"{name}.jsonl"
            found[name] = scored.make(out, answered, config.service, revision)
            revision = scored.revision_of(found[name])
        compare_report.write(config.out, found, config.samples)


def inputs(config: CompareSettings) -> plan_file.Inputs:
    given = [config.first, config.second]
    files = [Path(one) for one in given if is_file(one)]
    asked = [] if config.prompts is None else [config.prompts.path]
    return plan_file.digests([one for one in given if not is_file(one)], [*files, *asked])


def answers(config: CompareSettings, policy: str, out: Path) -> list[Candidates]:
    if is_file(policy):
        return candidates.by_prompt(candidates.load(Path(policy)).rows)
    assert config.prompts is not None
    chat = Chat.load(policy)
    asked = prompts.on_side(prompts.load(config.prompts.path), config.split, config.side)
    chosen = prompts.choose(asked, config.prompts, lambda one: len(chat.prompt(one.turns)))
    return samples.make(out, chosen, policy, config.sampling, policy)


def is_file(policy: str) -> bool:
    return policy.endswith((".jsonl", ".jsonl.gz"))
