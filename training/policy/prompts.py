"""Prompts to answer: those of any file whose rows have one, distinct by their first user turn."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from plaudit.checkpoint import Message
from training.data.columns import Columns
from training.data.jsonlines import DataError, Row
from training.data.shapes import first_user_turn, prompt_of
from training.data.sources import Source, fitting, rows_of_file, said_of
from training.data.splits import Name, Split, unit_digest
from training.policy.candidates import Key, key_of


class PromptFile(BaseModel):
    """Where prompts are read; pairs, lists and candidates all have them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(description="a .jsonl or .jsonl.gz file whose rows have a prompt")
    max_tokens: int = Field(256, ge=1, description="longer prompts, in the policy's tokens, go out")
    max_prompts: int | None = Field(
        None, ge=1, description="of a side, this many, chosen by digest"
    )


@dataclass(frozen=True, slots=True)
class Prompt:
    """Turns that end with the user's."""

    turns: tuple[Message, ...]

    @property
    def first_turn(self) -> str:
        return first_user_turn(self.turns)

    @property
    def key(self) -> Key:
        """As of the candidates that answer it."""
        return key_of(self.turns)


def load(path: Path) -> list[Prompt]:
    """In the order of the file, of equal first turns the first; says in a line what it read."""
    _, rows = rows_of_file(Source(name="prompts", path=path))
    refused: list[tuple[int, str]] = []

    def read(row: Row, line: int) -> Prompt:
        return Prompt(prompt_of(Columns(row, {})))

    distinct: dict[str, Prompt] = {}
    for _, prompt in fitting(rows, read, refused):
        distinct.setdefault(prompt.first_turn.strip(), prompt)
    said = f"{path}: {len(distinct)} prompts{said_of(refused)}"
    if not distinct:
        raise DataError(f"{said}: no row holds a prompt")
    print(said, file=sys.stderr, flush=True)
    return [*distinct.values()]


def on_side(prompts: Sequence[Prompt], split: Split, side: Name | None) -> list[Prompt]:
    """Those of one side of the digest split; None: all."""
    return [one for one in prompts if side is None or split.side(one) == side]


def choose(
    prompts: Sequence[Prompt], file: PromptFile, tokens: Callable[[Prompt], int]
) -> list[Prompt]:
    """Those within the token limit, and of them as many as the file gives, by digest."""
    short = [one for one in prompts if tokens(one) <= file.max_tokens]
    if not short:
        raise DataError(
            f"{file.path}: none of {len(prompts)} prompts has at most {file.max_tokens} tokens; "
            "raise prompts.max_tokens, or the share of this side"
        )
    if file.max_prompts is None:
        return short
    ranked = sorted(short, key=lambda one: unit_digest(one.first_turn, salt="sample"))
    kept = {one.first_turn for one in ranked[: file.max_prompts]}
    return [one for one in short if one.first_turn in kept]
