"""Files of one JSON object a line."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.whole_file import opened_whole

Row = dict[str, Any]


class DataError(ValueError):
    """A data file that cannot be used; the text says what mends it."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that holds no row; the reason never quotes it."""

    reason: str


def parse_lines(content: bytes) -> Iterator[tuple[int, Row | Unreadable]]:
    """Each line's number and what it holds; blank lines are passed."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, parse(line)


def parse(line: bytes) -> Row | Unreadable:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        return Unreadable("not UTF-8")
    except json.JSONDecodeError:
        return Unreadable("not a JSON object")
    except ValueError:  # all else that json raises: Python reads no integer of that many digits
        return Unreadable("an integer of too many digits")
    except RecursionError:
        return Unreadable("nested too deeply")
    return row if isinstance(row, dict) else Unreadable("not a JSON object")


def read_rows(path: Path, required: Sequence[str]) -> list[Row]:
    """Rows that have the required columns; the first that has not is an error with its line. A file
    without rows is one too."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    rows = []
    for number, row in parse_lines(path.read_bytes()):
        if isinstance(row, Unreadable):
            raise DataError(f"{path}, line {number}: {row.reason}")
        missing = [name for name in required if name not in row]
        if missing:
            raise DataError(f"{path}, line {number}: no column {', '.join(missing)}")
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: no row in it; name a file that has some")
    return rows


def check_name(path: Path, *inputs: Path, beside: Sequence[str] = ()) -> None:
    """Refuse a name under which a reader would take the file for something else, and one that would
    write over an input: itself, or with one of the suffixes of what is written ``beside`` it."""
    if path.suffix != ".jsonl":
        raise DataError(f"{path}: name the file .jsonl")
    written = {path.resolve(), *(path.with_suffix(suffix).resolve() for suffix in beside)}
    lost = next((one for one in inputs if one.resolve() in written), None)
    if lost is not None:
        raise DataError(f"{path} would be written over {lost}, which is read: name another file")


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened_whole(path) as file:
        for row in rows:
            file.write((json.dumps(row) + "\n").encode())
