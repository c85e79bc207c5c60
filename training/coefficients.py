"""How much of each member an average takes: all alike, the best, greedily, or as given.

Letters: M members.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.settings import SettingsError

# What is given must sum to 1 within this; it is then divided by its sum.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Uniform:
    """Every member alike (arXiv:2401.12187)."""

    name = "uniform"
    selects = False


@dataclass(frozen=True)
class Greedy:
    """Members alike, of which each was added because the average did not get worse."""

    name = "greedy"
    selects = True


@dataclass(frozen=True)
class Best:
    """The ``count`` most accurate members alike."""

    count: int
    name = "best"
    selects = True


@dataclass(frozen=True)
class Given:
    coefficients: tuple[float, ...]
    name = "given"
    selects = False


Method = Uniform | Greedy | Best | Given
# The accuracy on the selection pairs of the average by M coefficients.
Judge = Callable[[Sequence[float]], float]


def check(method: Method, members: int) -> None:
    """Refuse what does not fit so many members, before anything is read."""
    match method:
        case Best(count) if not 1 <= count <= members:
            raise SettingsError(f"--best {count}: there are {members} members")
        case Given(coefficients):
            _check_given(coefficients, members)


def _check_given(coefficients: Sequence[float], members: int) -> None:
    if len(coefficients) != members:
        raise SettingsError(
            f"--coefficients has {len(coefficients)} values for {members} members; give one each"
        )
    if not all(coefficient >= 0 for coefficient in coefficients):
        raise SettingsError(f"--coefficients {_spaced(coefficients)}: each must be at least 0")
    total = sum(coefficients)
    if not abs(total - 1) <= TOLERANCE:
        raise SettingsError(
            f"--coefficients {_spaced(coefficients)} sum to {total:g}; they must sum to 1"
        )


def _spaced(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def choose(method: Method, accuracies: Sequence[float], judge: Judge) -> list[float]:
    """Coefficients (M,) by a checked method; ``accuracies`` are the members' own by ``judge``."""
    match method:
        case Uniform():
            return alike(range(len(accuracies)), len(accuracies))
        case Best(count):
            return alike(ranked(accuracies)[:count], len(accuracies))
        case Greedy():
            return alike(greedy(accuracies, judge), len(accuracies))
        case Given(coefficients):
            return [coefficient / sum(coefficients) for coefficient in coefficients]


def ranked(accuracies: Sequence[float]) -> list[int]:
    """Members from the best on; of equal ones the first."""
    return sorted(range(len(accuracies)), key=lambda member: -accuracies[member])


def greedy(accuracies: Sequence[float], judge: Judge) -> list[int]:
    """The greedy soup (arXiv:2203.05482, recipe 1): the best member, and each of the others, from
    the best on, with which the average is at least as accurate as without it."""
    first, *others = ranked(accuracies)
    kept, reached = [first], accuracies[first]
    for member in others:
        found = judge(alike([*kept, member], len(accuracies)))
        if found >= reached:
            kept, reached = [*kept, member], found
    return kept


def alike(chosen: Sequence[int], members: int) -> list[float]:
    return [1 / len(chosen) if member in chosen else 0.0 for member in range(members)]
