"""The first byte of an input chooses among several readers."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def chosen(data: bytes, among: Sequence[T]) -> tuple[T, bytes]:
    """One of them, and the rest of the bytes."""
    return among[(data[:1] or b"\0")[0] % len(among)], data[1:]


def choosing(one: T, among: Sequence[T], rest: bytes) -> bytes:
    """What ``chosen`` takes apart into ``one`` and ``rest``."""
    return bytes([among.index(one)]) + rest
