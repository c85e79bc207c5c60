"""Short instructions that no judge has been trained on, and answers of several models to them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from training.data.jsonlines import write_rows
from training.data.splits import unit_digest
from training.experiments.datasets import alpacaeval_lists, read
from training.policy.candidates import Candidates
from training.precision import measuring_dtype
from training.score import checkpoints

# Characters of an instruction, and of an answer to it.
INSTRUCTION = 200
ANSWER = range(20, 400)


def answered(data: Path, responses: int, at_least: int) -> list[Candidates]:
    """Instructions of AlpacaEval with short answers of as many models, chosen by digest; those with
    fewer than ``at_least`` are left out."""
    seen = trained_on(data)
    found = []
    for one in alpacaeval_lists(data):
        instruction = one.graded.first_turn
        answers = dict(zip(one.graded.responses, one.models, strict=True))
        short = [text for text in answers if len(text) in ANSWER]
        if instruction.strip() in seen or len(instruction) > INSTRUCTION or len(short) < at_least:
            continue
        kept = sorted(short, key=lambda text: unit_digest(text, salt=instruction))[:responses]
        prompt = tuple(one.graded.prompt)
        found.append(Candidates(prompt, tuple(kept), tuple(answers[text] for text in kept)))
    return found


def trained_on(data: Path) -> set[str]:
    """First turns of everything that a judge may be trained on."""
    files = ("rmb_pairs", "hh_helpful")
    return {pair.first_turn.strip() for name in files for pair in read(data, name, "plaudit")}


def write_prompts(rows: Sequence[Candidates], out: Path) -> None:
    write_rows(out, ({"prompt": list(one.prompt)} for one in rows))


def judged(judge: Path, rows: Sequence[Candidates]) -> list[Candidates]:
    """The same responses with the rewards of a checkpoint, in this process."""
    asked = [(list(one.prompt), text) for one in rows for text in one.responses]
    scorer, outcomes = checkpoints.score(judge, asked, "error", measuring_dtype())
    rewards = iter([one.reward for one in outcomes])
    return [
        replace(one, rewards=tuple(next(rewards) for _ in one.responses), revision=scorer.revision)
        for one in rows
    ]


def judged_files(
    judge: Path, files: Mapping[str, Sequence[Candidates]]
) -> dict[str, list[Candidates]]:
    """As ``judged``, of several files by one loading."""
    rows = iter(judged(judge, [one for file in files.values() for one in file]))
    return {name: list(islice(rows, len(file))) for name, file in files.items()}
