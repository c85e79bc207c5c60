"""A file of a policy's responses, whose making may be broken off and gone on with.

Rows are appended, whole prompts at a time, to a file beside it; once all are there they become the
file, in the order of the prompts. The seed of a batch follows from its prompts, so that a making
that was broken off comes to the same rows as one that was not.
"""

import json
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from training.data.jsonlines import DataError
from training.data.splits import unit_digest
from training.policy import candidates
from training.policy.candidates import Candidates, Key, row_of
from training.policy.chat import Chat
from training.policy.prompts import Prompt
from training.policy.sampling import Response, Sampler, Sampling, TransformersSampler
from training.policy.vllm_sampler import VllmSampler

# What a policy's own responses are said to be of.
SOURCE = "policy"


def make(
    out: Path, prompts: Sequence[Prompt], model: str, sampling: Sampling, source: str = SOURCE
) -> list[Candidates]:
    """The rows of ``out``: those that are there, or else sampled from ``model`` now. DataError
    where those that are there answer other prompts."""
    if out.is_file():
        found = candidates.read(out)
        if [one.key for one in found] != [one.key for one in prompts]:
            raise DataError(f"{out} answers other prompts than are asked: remove it")
        return found
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(out)
    done = {one.key: one for one in recovered(partial)}
    if any(one.key not in done for one in prompts):
        done |= {one.key: one for one in append(partial, done, prompts, model, sampling, source)}
    rows = [done[one.key] for one in prompts]
    candidates.write(out, rows)
    partial.unlink(missing_ok=True)
    return rows


def append(
    partial: Path,
    done: Container[Key],
    prompts: Sequence[Prompt],
    model: str,
    sampling: Sampling,
    source: str,
) -> Iterator[Candidates]:
    """What is not done yet, on disk as soon as its batch is sampled."""
    chat = Chat.load(model)
    sampler = load_sampler(model, chat, sampling)
    ids = [chat.prompt(one.turns) for one in prompts]
    with partial.open("a") as file, tqdm(total=len(prompts), desc="sampled", unit="prompt") as bar:
        for batch in sampler.batches(ids):
            missing = [place for place in batch if prompts[place].key not in done]
            if missing:
                asked = [prompts[place] for place in batch]
                answered = sampler.sample([ids[place] for place in batch], seed_of(asked, sampling))
                for prompt, responses in zip(asked, answered, strict=True):
                    if prompt.key not in done:
                        row = candidates_of(prompt, responses, source)
                        file.write(json.dumps(row_of(row)) + "\n")
                        yield row
                file.flush()
            bar.update(len(batch))


def seed_of(prompts: Sequence[Prompt], sampling: Sampling) -> int:
    """Of a batch, by its prompts: whatever was sampled before it."""
    said = "\0".join(one.first_turn for one in prompts)
    return int(unit_digest(said, salt=f"{sampling.seed} ") * 2**32)


def candidates_of(prompt: Prompt, responses: Sequence[Response], source: str) -> Candidates:
    return Candidates(
        prompt.turns,
        tuple(one.text for one in responses),
        sources=(source,) * len(responses),
        finished=tuple(one.finished for one in responses),
    )


def load_sampler(model: str, chat: Chat, sampling: Sampling) -> Sampler:
    if sampling.engine == "vllm":
        return VllmSampler(model, chat, sampling)
    return TransformersSampler.load(model, chat, sampling)


def partial_of(out: Path) -> Path:
    """Where the rows are until all are there."""
    return out.with_name(f"{out.stem}.partial.jsonl")


def recovered(partial: Path) -> list[Candidates]:
    """The whole rows of a making that was broken off; what it had begun of another is cut off."""
    if not partial.is_file():
        return []
    whole, _, begun = partial.read_bytes().rpartition(b"\n")
    if begun:
        with partial.open("r+b") as file:
            file.truncate(len(whole) + 1 if whole else 0)
    return candidates.read(partial) if whole else []
