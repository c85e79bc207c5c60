"""Reads the columns of one data row. Pure; a reason never quotes a row."""

import re
from collections.abc import Mapping
from typing import Any

from plaudit.checkpoint import Message
from training.data.jsonlines import Row

# Beyond it a number is no margin, and an integer may not even fit a float.
MAX = 1e6
SURROGATE = re.compile("[\ud800-\udfff]")


class RowError(ValueError):
    """A row, or one comparison of it, that does not fit its declared shape."""


class Columns:
    """A row's columns under our names; it remembers which were read."""

    def __init__(self, row: Row, names: Mapping[str, str]):
        self._row, self._names = row, names
        self._read: set[str] = set()

    def __call__(self, name: str) -> Any:
        actual = self._names.get(name, name)
        if actual not in self._row:
            raise RowError(f"no column {actual!r}")
        self._read.add(actual)
        return self._row[actual]

    def get(self, name: str) -> Any:
        """None where there is no such column, or nothing in it."""
        return self(name) if self._names.get(name, name) in self._row else None

    def rest(self) -> Row:
        return {name: value for name, value in self._row.items() if name not in self._read}


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise RowError(f"a response is {type(value).__name__}, not text")
    if SURROGATE.search(value):
        raise RowError("a lone surrogate, which no encoding can hold")
    return value


def items(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise RowError(f"{name} is {type(value).__name__}, not a list")
    return value


def texts(value: Any, name: str) -> list[str]:
    return [text(one) for one in items(value, name)]


def member(value: Any, key: str, name: str) -> Any:
    if not isinstance(value, dict) or key not in value:
        raise RowError(f"{name} has no {key!r}")
    return value[key]


def number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX:
        raise RowError(f"{name} is not a finite number")
    return float(value)


def probability(value: Any, name: str) -> float:
    found = number(value, name)
    if not 0 <= found <= 1:
        raise RowError(f"{name} is not from 0 to 1")
    return found


def turns(value: Any) -> list[Message]:
    if isinstance(value, str):
        return [{"role": "user", "content": text(value)}]
    try:
        found = [{"role": turn["role"], "content": text(turn["content"])} for turn in value]
    except (TypeError, KeyError):
        raise RowError("turns are not a list of {role, content}") from None
    if any(turn["role"] not in ("system", "user", "assistant") for turn in found):
        raise RowError("a turn has an unknown role")
    return found
