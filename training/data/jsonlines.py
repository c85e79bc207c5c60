"""Files of one JSON object a line."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from plaudit.whole_file import opened_whole

Row = dict[str, Any]


class DataError(ValueError):
    """A data file that cannot be used; the text says what mends it."""


def parse_lines(text: str) -> Iterator[tuple[int, Row | None]]:
    """Line numbers and rows, None for a line that is no JSON object; blank lines are passed."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            yield number, row if isinstance(row, dict) else None


def read_rows(path: Path, required: Sequence[str]) -> list[Row]:
    """Rows that have the required columns; the first that has not is an error with its line."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    rows = []
    for number, row in parse_lines(path.read_text()):
        if row is None:
            raise DataError(f"{path}, line {number}: not a JSON object")
        missing = [name for name in required if name not in row]
        if missing:
            raise DataError(f"{path}, line {number}: no column {', '.join(missing)}")
        rows.append(row)
    return rows


def check_name(path: Path) -> None:
    """Refuse a name under which a reader would take the file for something else."""
    if path.suffix != ".jsonl":
        raise DataError(f"{path}: name the file .jsonl")


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened_whole(path) as file:
        for row in rows:
            file.write((json.dumps(row) + "\n").encode())
