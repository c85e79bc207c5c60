"""Where prompts and responses come from: the user's file, or words of a given count of tokens."""

import gzip
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from plaudit.wire import Message

# Frequent English words, most of them one token of usual vocabularies.
FREQUENT = (
    "the of and to in is that it for was on are as with his they at be this from have or by one "
    "had not but what all were when we there can an your which their said if do will each about "
    "how up out them then she many some so these would other into has more her two like him see "
    "time could no make than first been its who now people my made over did down only way find use"
)
WORDS = FREQUENT.split()
# At the beginning of a text that is to be new in every request: eight hexadecimal digits of the run
# and eight of the request, so of this length always.
MARK = "n0000000000000000"

Prompt = str | list[Message]


class BenchError(ValueError):
    """A load that cannot be made or sent; the text ends with what mends it."""


class Row(msgspec.Struct, frozen=True):
    """A line of ``--data``; other fields are left alone."""

    prompt: Prompt
    response: str | None = None
    responses: list[str] | None = None


@dataclass(frozen=True)
class Texts:
    """A prompt and responses to it."""

    prompt: Prompt
    responses: Sequence[str]


def read(path: Path) -> list[Texts]:
    """The prompts of a file of JSON lines, each with all its responses."""
    if not path.is_file():
        raise BenchError(f"{path}: no such file; correct --data")
    found: dict[bytes, tuple[Prompt, list[str]]] = {}
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = msgspec.json.decode(line, type=Row)
            except msgspec.MsgspecError as error:
                raise BenchError(f"{path}:{number}: {error}") from None
            given = [row.response] if row.response is not None else row.responses or []
            if not given:
                raise BenchError(f"{path}:{number}: add response, or a list responses")
            key = msgspec.json.encode(row.prompt)
            found.setdefault(key, (row.prompt, []))[1].extend(given)
    if not found:
        raise BenchError(f"{path}: no line; write {{'prompt': …, 'response': …}} on each")
    return [Texts(prompt, responses) for prompt, responses in found.values()]


def singles(rows: Sequence[Texts]) -> list[Texts]:
    """Each response by itself, with its prompt."""
    return [Texts(row.prompt, [response]) for row in rows for response in row.responses]


def generated(prompt_words: int, response_words: int, responses: int, seed: int) -> Iterator[Texts]:
    """Prompts without end, each with that many responses, of these counts of words."""
    draw = random.Random(seed)
    while True:
        prompt = f"{MARK} {words(draw, prompt_words)}"
        yield Texts(prompt, [words(draw, response_words) for _ in range(responses)])


def words(draw: random.Random, count: int) -> str:
    return " ".join(draw.choices(WORDS, k=max(1, count)))
