"""Reads preference pairs. The shape of a source is declared, never guessed.

Shapes, each with its columns (renamed by ``columns``):

- ``plaudit``: ``prompt`` a list of turns ending with the user's, ``chosen`` and ``rejected`` text.
- ``transcript``: ``chosen`` and ``rejected`` are Anthropic transcripts (``\\n\\nHuman: …
  \\n\\nAssistant: …``) that share all but the last turn.
- ``messages``: ``chosen`` and ``rejected`` are lists of turns that share all but the last one, as
  in UltraFeedback-binarized.
"""

import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from plaudit.checkpoint import Message

Shape = Literal["plaudit", "transcript", "messages"]
Row = dict[str, Any]


class DataError(ValueError):
    """A source that cannot be used; the text says what mends it."""


class RowError(ValueError):
    """A row that does not fit its declared shape."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt, the first preferred."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str
    category: str

    @property
    def first_turn(self) -> str:
        return next(turn["content"] for turn in self.prompt if turn["role"] == "user")


class Source(BaseModel):
    """One file of pairs, or one dataset of a hub (``hub: owner/name``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="the name in reports")
    path: Path | None = Field(None, description="a .jsonl or .jsonl.gz file")
    hub: str | None = Field(None, description="a dataset id that the datasets library can load")
    hub_split: str = Field("train", description="split of the hub dataset to read")
    shape: Shape = Field("plaudit", description="how a row holds its pair")
    columns: dict[str, str] = Field({}, description="our column name: the name in the file")
    sha256: str | None = Field(None, description="refuse the file if its digest differs")
    pairs_per_prompt: int | None = Field(
        None, ge=1, description="train on this many pairs of each prompt, chosen by digest"
    )
    max_pairs: int | None = Field(None, ge=1, description="keep this many, chosen by digest")


@dataclass
class Loaded:
    """The pairs of a source, the digest of its bytes and the rows that did not fit."""

    source: Source
    digest: str
    pairs: list[Pair] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)

    def report(self) -> str:
        """One line for a log: counts and line numbers, never a row's text."""
        line = f"{self.source.name}: {len(self.pairs)} pairs"
        if self.refused:
            reasons = Counter(reason for _, reason in self.refused)
            lines = ", ".join(str(number) for number, _ in self.refused[:10])
            line += f", {len(self.refused)} rows refused ({dict(reasons)}; lines {lines}"
            line += ", …)" if len(self.refused) > 10 else ")"
        return line


def load(source: Source) -> Loaded:
    """Read every row of a source; a row that does not fit is kept with its line and reason."""
    digest, rows = _rows_of_file(source) if source.path else _rows_of_hub(source)
    loaded = Loaded(source, digest)
    for number, row in rows:
        try:
            loaded.pairs.append(to_pair(row, source))
        except RowError as error:
            loaded.refused.append((number, str(error)))
    if not loaded.pairs:
        raise DataError(f"{loaded.report()}: nothing fits shape {source.shape!r}; see its columns")
    return loaded


def _rows_of_file(source: Source) -> tuple[str, Iterator[tuple[int, Row]]]:
    assert source.path is not None
    if not source.path.is_file():
        raise DataError(f"{source.name}: no file {source.path}")
    content = source.path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if source.sha256 not in (None, digest):
        raise DataError(
            f"{source.name}: {source.path} has sha256 {digest}, expected {source.sha256}: "
            "the file changed; restore it or correct sha256 in the settings"
        )
    text = gzip.decompress(content) if source.path.suffix == ".gz" else content
    return f"sha256:{digest}", _parse_lines(text.decode().split("\n"))


def _parse_lines(lines: Iterable[str]) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            yield number, row if isinstance(row, dict) else {"": "not a JSON object"}


def _rows_of_hub(source: Source) -> tuple[str, Iterator[tuple[int, Row]]]:
    if not source.hub:
        raise DataError(f"{source.name}: give either path or hub")
    from datasets import load_dataset  # seconds to import, and only hub sources need it

    dataset = load_dataset(source.hub, split=source.hub_split)
    return f"fingerprint:{dataset._fingerprint}", (
        (i, dict(row)) for i, row in enumerate(dataset, start=1)
    )


def to_pair(row: Row, source: Source) -> Pair:
    """One row in its declared shape, or RowError with a reason that quotes no text."""
    if "" in row:
        raise RowError("not a JSON object")

    def column(name: str) -> Any:
        actual = source.columns.get(name, name)
        if actual not in row:
            raise RowError(f"no column {actual!r}")
        return row[actual]

    prompt, chosen, rejected = SHAPES[source.shape](column)
    if not prompt or prompt[-1]["role"] != "user":
        raise RowError("the prompt does not end with a user turn")
    if not chosen.strip() or not rejected.strip():
        raise RowError("an empty response")
    if chosen == rejected:
        raise RowError("chosen equals rejected")
    category = str(row.get(source.columns.get("category", "category"), source.name))
    return Pair(tuple(prompt), chosen, rejected, source.name, category)


Column = Callable[[str], Any]
Halves = tuple[list[Message], str, str]


def _from_plaudit(column: Column) -> Halves:
    return _turns(column("prompt")), _text(column("chosen")), _text(column("rejected"))


def _from_transcripts(column: Column) -> Halves:
    return _join(_transcript(column("chosen")), _transcript(column("rejected")))


def _from_messages(column: Column) -> Halves:
    return _join(_turns(column("chosen")), _turns(column("rejected")))


SHAPES: dict[Shape, Callable[[Column], Halves]] = {
    "plaudit": _from_plaudit,
    "transcript": _from_transcripts,
    "messages": _from_messages,
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RowError(f"a response is {type(value).__name__}, not text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise RowError("a lone surrogate, which no encoding can hold")
    return value


def _turns(value: Any) -> list[Message]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    try:
        turns = [{"role": turn["role"], "content": _text(turn["content"])} for turn in value]
    except (TypeError, KeyError):
        raise RowError("turns are not a list of {role, content}") from None
    if any(turn["role"] not in ("system", "user", "assistant") for turn in turns):
        raise RowError("a turn has an unknown role")
    return turns


def _transcript(value: Any) -> list[Message]:
    pieces = re.split(r"\n\n(Human|Assistant): ?", _text(value))
    if pieces[0].strip() or len(pieces) < 3:
        raise RowError("not a Human/Assistant transcript")
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[who], "content": said.strip()}
        for who, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def _join(chosen: list[Message], rejected: list[Message]) -> Halves:
    if not chosen or chosen[:-1] != rejected[:-1]:
        raise RowError("chosen and rejected differ before their last turn")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise RowError("the last turn is not the assistant's")
    return chosen[:-1], chosen[-1]["content"], rejected[-1]["content"]
