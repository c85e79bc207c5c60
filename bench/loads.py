"""Rollout traffic made of real texts: token-id sequences in the order in which they would arrive.

Texts are those of preference data with long and short answers, several to a prompt. Without the
data (``--data``) there is no benchmark: random ids have neither the lengths nor the prefixes.
"""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from plaudit.conversation import Encoder

Sequences = list[list[int]]
Row = dict[str, Any]


def rows(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt") as lines:
        yield from map(json.loads, lines)


def alpacaeval(data: Path) -> Iterator[Row]:
    return rows(data / "alpacaeval_lists.jsonl.gz")


def responses_of(row: Row) -> list[str]:
    return [one["text"] for one in row["responses"] if one["text"]]


def pairs(encoder: Encoder, data: Path, size: int) -> Sequences:
    """Chosen and rejected of ``8 * size`` conversations of several turns."""
    found = []
    for row in rows(data / "hh_helpful.jsonl.gz"):
        for answer in (row["chosen"], row["rejected"]):
            found.append(encoder.pair(row["prompt"], answer))
        if len(found) == 16 * size:
            break
    return found


def groups_of_16(encoder: Encoder, data: Path, size: int) -> Sequences:
    """``size`` prompts, 16 answers each."""
    return grouped(encoder, data, size, 16)


def groups_of_64(encoder: Encoder, data: Path, size: int) -> Sequences:
    """64 answers for each of ``size / 4`` prompts: the answers there are, and their beginnings,
    as rollouts that were stopped at several lengths."""
    return grouped(encoder, data, max(1, size // 4), 64)


def grouped(encoder: Encoder, data: Path, prompts: int, count: int) -> Sequences:
    found: Sequences = []
    for row in alpacaeval(data):
        answers = responses_of(row)
        while len(answers) < count:
            answers += [text[: len(text) // 2] for text in answers if len(text) > 40]
        found += [encoder.pair(row["prompt"], text) for text in answers[:count]]
        prompts -= 1
        if not prompts:
            break
    return found


def long_prompts(encoder: Encoder, data: Path, size: int) -> Sequences:
    """``size / 4`` conversations of some 2,000 tokens with eight short answers each."""
    source = alpacaeval(data)
    found: Sequences = []
    for _ in range(max(1, size // 4)):
        history: list[dict[str, str]] = []
        length = 0
        while length < 2000:
            row = next(source)
            history += [*row["prompt"], {"role": "assistant", "content": responses_of(row)[0]}]
            length = len(encoder.messages(history))
        row = next(source)
        short = sorted(responses_of(row), key=len)[:8]
        found += [encoder.pair([*history, *row["prompt"]], text) for text in short]
    return found


LOADS: dict[str, Callable[[Encoder, Path, int], Sequences]] = {
    "pairs": pairs,
    "groups of 16": groups_of_16,
    "groups of 64": groups_of_64,
    "long prompts": long_prompts,
}


def load(name: str, encoder: Encoder, data: Path, size: int) -> Sequences:
    """The sequences of a load, each within the model's limit, in arrival order: callers' requests
    come one after another, and what belongs together does not stand together."""
    found = [ids for ids in LOADS[name](encoder, data, size) if len(ids) <= encoder.max_tokens]
    random.Random(0).shuffle(found)
    return found
