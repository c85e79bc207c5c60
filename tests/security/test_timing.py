"""S12: how long a key takes to be refused says nothing of how near it is."""

import ast
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from service.key_entry import read
from service.keys import Keys

SERVICE = Path(__file__).parents[2] / "service"
# Where API keys pass.
FILES = (
    "keys.py", "key_entry.py", "entrance.py", "edge.py", "admin.py", "request_headers.py",
    "audit.py",
)  # fmt: skip
SECRET = {"key", "given", "whole", "part", "digest", "authorization", "secret", "password",
          "token", "checksum", "mac", "signature"}  # fmt: skip
KEY = "plaudit_" + "k" * 43
# Of dudect, Reparaz, Balasch and Verbauwhede 2017: beyond it two times surely differ.
THRESHOLD = 4.5


def secret_comparisons(source: str) -> Iterator[str]:
    """Each ==, != or `in` that stands beside a name of a secret, but for what asks only whether
    there is one, or whether a word of the source is in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            quick = any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops)
            if quick and any(map(is_secret, sides)):
                yield ast.unparse(node)


def is_secret(side: ast.AST) -> bool:
    if isinstance(side, ast.Name):
        return not SECRET.isdisjoint(side.id.split("_"))
    if isinstance(side, ast.Attribute):
        return not SECRET.isdisjoint(side.attr.split("_"))
    if isinstance(side, ast.Call | ast.Subscript):
        return any(is_secret(one) for one in ast.iter_child_nodes(side))
    return False


@pytest.mark.parametrize("name", FILES)
def test_no_secret_is_compared_with_what_stops_at_the_first_difference(name: str) -> None:
    found = [*secret_comparisons((SERVICE / name).read_text())]
    # Which keys a file of the operator's names twice, and looked up at its reading.
    assert [one for one in found if one != "one.digest in places"] == []


def test_the_search_finds_what_it_is_for() -> None:
    for bad in ("key == self._key", "given_key != known", "one.digest == x", "key in keys",
                "digest(key) == x", "x == scope['key'][key]", "header.secret != y"):  # fmt: skip
        assert [*secret_comparisons(bad)], bad
    for good in ("one.client == name", "key is None", "hmac.compare_digest(given, one.digest)"):
        assert not [*secret_comparisons(good)], good


def test_every_key_is_compared_wherever_the_right_one_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [f"a{number}:{KEY}{number}" for number in range(20)]
    keys, compared = Keys(read(lines, "line", ("score",), "key")), []
    real = __import__("hmac").compare_digest
    monkeypatch.setattr(
        "service.keys.hmac.compare_digest", lambda a, b: compared.append(b) or real(a, b)
    )
    for sent in (f"{KEY}0", f"{KEY}19", "wrong", "", None):
        compared.clear()
        keys.find(sent)
        assert len(compared) == 2 * len(lines)


def welch(one: list[float], other: list[float]) -> float:
    """Welch's t of two samples."""
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return (statistics.fmean(one) - statistics.fmean(other)) / math.sqrt(spread)


def t_of(check: Callable[[str], object], first: str, last: str, draws: int) -> float:
    """Of the times of two inputs in random order, without the slowest tenth, which the machine
    and not the code is slow for."""
    times: dict[str, list[float]] = {first: [], last: []}
    rng = Random(0)
    for _ in range(draws):
        sent = rng.choice((first, last))
        began = time.perf_counter_ns()
        check(sent)
        times[sent].append(float(time.perf_counter_ns() - began))
    kept = [sorted(found)[: len(found) * 9 // 10] for found in times.values()]
    return welch(*kept)


def naive(sent: str) -> bool:
    """What a comparison that stops at the first difference does, slow enough to be seen."""
    return all(a == b for a, b in zip(sent, KEY, strict=True))


def test_a_key_that_is_wrong_at_its_end_takes_as_long_as_one_wrong_at_its_beginning(
    pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    """By Welch's t over 200,000 calls. The same test sees a comparison that stops early."""
    if not pytestconfig.getoption("long"):
        pytest.skip("a test of times, which needs a machine of its own: --long")
    # Of one form, so that how they are read does not differ either.
    first, last = "x" + KEY[1:], KEY[:-1] + "x"
    keys = Keys(read([f"trainer:{KEY}"], "line", ("score",), "key"))
    careless = t_of(naive, first, last, 20_000)
    careful = t_of(keys.find, first, last, 200_000)
    with capsys.disabled():
        print(f"\nWelch's t: {careful:.2f}; of a comparison that stops early: {careless:.2f}")
    assert abs(careless) > THRESHOLD
    assert abs(careful) < THRESHOLD
