"""Every target over its seeds, over what once broke it, and over bytes made up from both.

Bounded and the same in each run; with --long a hundred times as many, from --seed.
"""

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fuzz.targets import TARGETS, inputs

# Of the processor, for one input; each takes milliseconds.
SECONDS = 20
MADE_UP = 5000
LONGEST = 4096
# What formats are made of, so that mutations reach beyond their first checks.
PIECES = (
    b"\x00", b"\xff\xff\xff\xff", b"\xed\xa0\x80", b"\\ud800", b"\x1b[2J", b"[[[[", b'{"a":' * 50,
    b"null", b"true", b"-1", b"1e400", b"NaN", b"9" * 400, b'"items"', b'"text"', b'"auto_map"',
    b'"shape"', b'"', b"}", b",", b":", b"\n", b"!!int ", b"&a", b"*a", b"? ", b"{}", b"[]", b"<s>",
)  # fmt: skip


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """An error if what is inside takes more time of the processor."""

    def late(*_: object) -> None:
        raise TimeoutError(f"over {seconds} s of CPU time for one input")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def mutated(rng: random.Random, known: list[bytes]) -> bytes:
    """One that is known, with a few pieces put in, cut out, doubled or taken from another."""
    data = bytearray(rng.choice(known)[:LONGEST])
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, to = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        match rng.randrange(5):
            case 0:
                data[at:at] = rng.choice(PIECES)
            case 1:
                del data[at:to]
            case 2:
                data[at:to] = rng.choice(PIECES)
            case 3:
                other = rng.choice(known)[:LONGEST]
                data[at:to] = other[min(at, len(other)) : to]
            case _ if data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_known_holds(name: str) -> None:
    known = inputs(name)
    assert known
    for data in [*known, b"", b"\x00", b"[" * 50_000, b'\x00{"a":' * 50_000]:
        with bounded(SECONDS):
            TARGETS[name].one(data)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_made_up_holds(name: str, pytestconfig: pytest.Config) -> None:
    rng = random.Random(f"{name} {pytestconfig.getoption('seed')}")
    known = inputs(name)
    for _ in range(MADE_UP * (100 if pytestconfig.getoption("long") else 1)):
        data = mutated(rng, known)
        try:
            with bounded(SECONDS):
                TARGETS[name].one(data)
        except Exception as error:
            error.add_note(f"keep it in tests/fuzz/corpus/{name}: {data!r}")
            raise
