"""``plaudit generate``: a policy's responses to the prompts of a file, as a file of candidates.

A killed run goes on where it stopped: give it the same settings again.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from plaudit.checkpoint import sha256
from plaudit.whole_file import write_whole
from training import backbone, settings
from training.data.jsonlines import check_name
from training.data.splits import Name, Split
from training.policy import prompts, samples
from training.policy.candidates import Candidates
from training.policy.chat import Chat
from training.policy.prompts import Prompt, PromptFile
from training.policy.sampling import Sampling
from training.settings import SettingsError
from training.shared_files import alone


class GenerateSettings(BaseModel):
    """Everything that ``plaudit generate`` can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="directory or hub id of the policy")
    out: Path = Field(description="the candidates, a .jsonl file")
    prompts: PromptFile = Field(description="file of prompts, {path, max_tokens, max_prompts}")
    split: Split = Field(Split(), description="which prompts stand on which side")
    side: Name | None = Field(None, description="answer the prompts of this side; null: all")
    source: str = Field(samples.SOURCE, description="what the responses are said to be of")
    sampling: Sampling = Field(Sampling(), description="how the policy answers")


def main(argv: Sequence[str]) -> int:
    generate(settings.of_command(GenerateSettings, "plaudit generate", __doc__, argv))
    return 0


def generate(config: GenerateSettings) -> list[Candidates]:
    """The rows of ``OUT``, one a prompt; beside it, in ``OUT`` with ``.json``, what they are of."""
    check_name(config.out, config.prompts.path, beside=(".json",))
    chosen = choose(config)
    with alone(config.out):
        refuse_another(config, run_of(config, chosen))
        found = samples.make(config.out, chosen, config.model, config.sampling, config.source)
    print(summary(config.out, found))
    return found


def choose(config: GenerateSettings) -> list[Prompt]:
    chat = Chat.load(config.model)
    on_side = prompts.on_side(prompts.load(config.prompts.path), config.split, config.side)
    return prompts.choose(on_side, config.prompts, lambda one: len(chat.prompt(one.turns)))


def run_of(config: GenerateSettings, chosen: Sequence[Prompt]) -> dict[str, Any]:
    """All that decides the responses."""
    asked = "\n".join(repr(one.key) for one in chosen)
    return {
        "policy": config.model,
        "weights": backbone.digest_of_base(config.model),
        "prompts": str(config.prompts.path),
        "asked": len(chosen),
        "digest": sha256(asked.encode()),
        "source": config.source,
        "sampling": config.sampling.model_dump(mode="json"),
    }


def refuse_another(config: GenerateSettings, run: dict[str, Any]) -> None:
    """Refuse a file that other settings have made or begun; record what this one is of."""
    path = config.out.with_suffix(".json")
    text = json.dumps(run, indent=1) + "\n"
    begun = [one for one in (config.out, samples.partial_of(config.out)) if one.exists()]
    if begun and (not path.is_file() or path.read_text() != text):
        raise SettingsError(
            f"{begun[0]} is of another run: policy, prompts or sampling have changed; choose "
            "another out=FILE, or remove it"
        )
    write_whole(path, text.encode())


def summary(out: Path, found: Sequence[Candidates]) -> str:
    count = sum(len(one.responses) for one in found)
    cut = sum(not finished for one in found for finished in one.finished or ())
    return f"{out}: {len(found)} prompts, {count} responses, {cut} cut at the limit"
