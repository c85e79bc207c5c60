"""What the experiments on DPO and GRPO share: RMB's prompts, and policies' answers to them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.data.jsonlines import write_rows
from training.data.splits import Name, Split
from training.experiments.datasets import rmb_pairs
from training.policy import prompts, samples
from training.policy.candidates import Candidates
from training.policy.chat import Chat
from training.policy.prompts import Prompt, PromptFile
from training.policy.sampling import Sampling

# The judges' validation side is the policies' held-out side: nothing is trained on it.
SPLIT = Split(validation=0.1, test=0)
HELD_OUT: Name = "validation"


def prompt_file(data: Path, out: Path) -> Path:
    """RMB's prompts, from a file with the digest that is expected."""
    path = out / "prompts.jsonl"
    if not path.exists():
        distinct = dict.fromkeys(pair.turns for pair in rmb_pairs(data))
        rows = [[{"role": role, "content": text} for role, text in turns] for turns in distinct]
        write_rows(path, ({"prompt": turns} for turns in rows))
    return path


def held_out(path: Path, base: Path, count: int, max_tokens: int) -> list[Prompt]:
    chat = Chat.load(str(base))
    file = PromptFile(path=path, max_tokens=max_tokens, max_prompts=count)
    side = prompts.on_side(prompts.load(path), SPLIT, HELD_OUT)
    return prompts.choose(side, file, lambda one: len(chat.prompt(one.turns)))


def answers(
    policies: Mapping[str, Path], asked: Sequence[Prompt], sampling: Sampling, out: Path
) -> dict[str, list[Candidates]]:
    """By policy; files under ``out`` that are there are not sampled again."""
    out.mkdir(parents=True, exist_ok=True)
    return {
        name: samples.make(out / f"{name}.jsonl", asked, str(policy), sampling, name)
        for name, policy in policies.items()
    }
