"""Promises under load and under faults: real processes, real signals, counted.

Each runs in a bounded form in every test run, and in a long one with ``make chaos``. What is drawn
by chance is drawn from one seed, which is printed.
"""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

Promise = Callable[..., None]


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    """Whether this is the long form: ``seconds = 600 if long else 5``."""
    return bool(pytestconfig.getoption("long"))


@pytest.fixture
def rng(pytestconfig: pytest.Config) -> Random:
    return Random(pytestconfig.getoption("seed"))


@pytest.fixture
def promise(request: pytest.FixtureRequest, long: bool) -> Promise:
    """``promise(requests=9000, faults=12, lost=0, wrong=0)``: nothing was lost and nothing wrong.

    What was counted goes to ``--figures`` under the first paragraph of the test's docstring, which
    states the promise; docs/reliability_table.py makes a table of it. Any other count or measure
    may be given besides, with its unit in its name: ``p99_ms=12.5``.
    """

    def keep(requests: int, faults: int, lost: int = 0, wrong: int = 0, **more: float) -> None:
        counted = {"requests": requests, "faults": faults, "lost": lost, "wrong": wrong} | more
        file = request.config.getoption("figures")
        if file:
            line = {"test": request.node.nodeid, "promise": stated(request.function)}
            line |= {"of": stated(request.module), "long": long, "counted": counted}
            with Path(file).open("a") as lines:
                lines.write(json.dumps(line) + "\n")
        assert requests > 0, "nothing was asked"
        assert (lost, wrong) == (0, 0), counted

    return keep


def stated(documented: object) -> str:
    """The first paragraph of a docstring, in one line."""
    text = inspect.getdoc(documented)
    assert text, f"{documented} states no promise: give it a docstring"
    return " ".join(text.split("\n\n")[0].split())
