"""Reads preference pairs from files and hubs. The shape of a source is declared, never guessed."""

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.columns import RowError
from training.data.groups import Group
from training.data.jsonlines import DataError, Row, Unreadable, parse_lines
from training.data.shapes import EVALUATION_ONLY, Pair, Shape, columns_of, group_of, pairs_of
from training.known_names import hint, nearest

T = TypeVar("T")


class Source(BaseModel):
    """One file of pairs, or one dataset of a hub (``hub: owner/name``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="the name in reports")
    path: Path | None = Field(None, description="a .jsonl or .jsonl.gz file")
    hub: str | None = Field(None, description="a dataset id that the datasets library can load")
    hub_split: str = Field("train", description="split of the hub dataset to read")
    shape: Shape = Field("plaudit", description="how a row holds its pairs")
    columns: dict[str, str] = Field({}, description="our column name: the name in the file")
    sha256: str | None = Field(None, description="refuse the file if its digest differs")
    side: Literal["train", "validation", "benchmark"] | None = Field(
        None,
        description="train on it only, measure with it only, or benchmark: plaudit evaluate "
        "measures with all of it, training refuses it; default: train and measure",
    )
    pairs_per_prompt: int | None = Field(
        None, ge=1, description="train on this many pairs of each prompt, chosen by digest"
    )
    max_pairs: int | None = Field(None, ge=1, description="keep this many, chosen by digest")

    @model_validator(mode="after")
    def _is_of_one_place(self) -> "Source":
        if (self.path is None) == (self.hub is None):
            given = "neither is" if self.path is None else "both are"
            raise ValueError(f"{given} given of path, a file, and hub, a dataset: give one")
        if self.hub is not None and self.sha256 is not None:
            raise ValueError("sha256 is of a file: leave it out, or save the dataset as a file")
        return self

    @model_validator(mode="after")
    def _renames_what_is_read(self) -> "Source":
        known = columns_of(self.shape)
        for ours in self.columns:
            if ours not in known:
                raise ValueError(
                    f"columns: {ours!r} is no column of shape {self.shape}; {hint(ours, known)}"
                )
        return self

    @model_validator(mode="after")
    def _is_measured_whole(self) -> "Source":
        if self.shape in EVALUATION_ONLY and self.side not in (None, "benchmark"):
            raise ValueError(
                f"shape {self.shape} is a benchmark's, which plaudit evaluate measures whole; "
                "leave side out"
            )
        return self

    @property
    def is_benchmark(self) -> bool:
        return self.side == "benchmark" or self.shape in EVALUATION_ONLY


@dataclass
class Loaded:
    """The rows and pairs of a source, the digest of its bytes, and what did not fit with its
    line."""

    source: Source
    digest: str
    groups: list[Group] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)

    def report(self) -> str:
        """One line for a log: counts and line numbers, never a row's text."""
        return f"{self.source.name}: {len(self.pairs)} pairs{said_of(self.refused)}"


def said_of(refused: Sequence[tuple[int, str]]) -> str:
    """How many rows were refused, why, and the first lines; nothing if none was."""
    if not refused:
        return ""
    reasons = Counter(reason for _, reason in refused)
    lines = ", ".join(str(number) for number, _ in refused[:10])
    more = ", …" if len(refused) > 10 else ""
    return f", {len(refused)} refused ({dict(reasons)}; lines {lines}{more})"


def load(source: Source) -> Loaded:
    """Read every row of a source; what does not fit is kept with its line and reason."""
    digest, rows = rows_of_file(source) if source.path else _rows_of_hub(source)
    loaded = Loaded(source, digest)
    seen: set[str] = set()

    def read(row: Row, number: int) -> Group:
        seen.update(row)
        return group_of(row, source.shape, source.columns, number)

    for number, group in fitting(rows, read, loaded.refused):
        pairs, reasons = pairs_of(group, source.name, source.is_benchmark)
        loaded.groups.append(group)
        loaded.pairs += pairs
        loaded.refused += [(number, reason) for reason in reasons]
    if seen:
        _refuse_missing(source, seen)
    if not loaded.pairs:
        raise DataError(f"{loaded.report()}: nothing fits shape {source.shape!r}; see its columns")
    return loaded


def _refuse_missing(source: Source, seen: set[str]) -> None:
    """Or a label that was meant to be soft would be hard in every row, unsaid. What rows have is
    not listed: it may be text of theirs."""
    for ours, theirs in source.columns.items():
        if theirs not in seen:
            mends = nearest(theirs, seen) or f"name a column that is there, or leave {ours} out"
            raise DataError(
                f"{source.name}: columns: {ours} is to be read from {theirs!r}, which no row has; "
                f"{mends}"
            )


def fitting(
    rows: Iterable[tuple[int, Row | Unreadable]],
    read: Callable[[Row, int], T],
    refused: list[tuple[int, str]],
) -> Iterator[tuple[int, T]]:
    """What ``read`` makes of each row, with its line; what does not fit is added to ``refused``."""
    for number, row in rows:
        if isinstance(row, Unreadable):
            refused.append((number, row.reason))
            continue
        try:
            found = read(row, number)
        except RowError as error:
            refused.append((number, str(error)))
        else:
            yield number, found


def load_all(sources: Iterable[Source], log: TextIO) -> list[Loaded]:
    """Every source, each with a line in ``log``."""
    loaded = [load(source) for source in sources]
    for one in loaded:
        print(one.report(), file=log, flush=True)
    return loaded


def rows_of_file(source: Source) -> tuple[str, Iterator[tuple[int, Row | Unreadable]]]:
    """The digest of a source's file, and what its lines hold, by their numbers."""
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
    text = _decompressed(source, content) if source.path.suffix == ".gz" else content
    return f"sha256:{digest}", parse_lines(text)


def _decompressed(source: Source, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{source.name}: {source.path} cannot be decompressed ({error}): it is damaged or cut "
            "off, or no gzip; fetch it again, or name it .jsonl if it is not compressed"
        ) from None


def _rows_of_hub(source: Source) -> tuple[str, Iterator[tuple[int, Row]]]:
    from datasets import load_dataset  # seconds to import, and only hub sources need it

    try:
        dataset = load_dataset(source.hub, split=source.hub_split)
    except (OSError, ValueError) as error:  # not to be reached, not there; a name, or a split
        raise DataError(
            f"{source.name}: no dataset {source.hub} with a split {source.hub_split} that the hub "
            f"or its local cache gives ({type(error).__name__}); correct hub or hub_split, fetch "
            "it where the hub can be reached, or save it as a file and name its path"
        ) from error
    return f"fingerprint:{dataset._fingerprint}", (
        (i, dict(row)) for i, row in enumerate(dataset, start=1)
    )
