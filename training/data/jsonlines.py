"""Data files of one JSON object a line: written whole or not at all."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from training.data.sources import DataError


def read_rows(path: Path, required: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows that have the required columns; the first that has not is an error with its line."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open() as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                raise DataError(f"{path}, line {number}: not a JSON object") from None
            missing = [name for name in required if name not in row]
            if missing:
                raise DataError(f"{path}, line {number}: no column {', '.join(missing)}")
            yield row


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("w") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    unfinished.replace(path)
