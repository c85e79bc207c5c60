"""Two rows of the report on the same pairs. Pure. Letters: P pairs, R rows of the report."""

from collections.abc import Sequence
from itertools import combinations

from msgspec import Struct
from scipy.stats import binomtest

from training.evaluate.accuracy import Array, Estimate, estimates


class Paired(Struct, frozen=True):
    """``difference`` is the accuracy of ``second`` less that of ``first``, on the same resamples.

    ``p_value`` is McNemar's exact one, two-sided: under equal accuracy each of the pairs on which
    just one row is right is either's with probability one half. It takes pairs for independent;
    the interval, over prompts, does not.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    p_value: float
    difference: Estimate


def compare(right: Array, draws: Array, names: Sequence[str]) -> list[Paired]:
    """Every two rows of ``right`` (P, R), of whose accuracies there are ``draws`` (B, R)."""
    values = right.mean(axis=0)
    places = [*combinations(range(len(names)), 2)]
    if not places:
        return []
    firsts, seconds = (list(side) for side in zip(*places, strict=True))
    differences = estimates(values[seconds] - values[firsts], draws[:, seconds] - draws[:, firsts])
    return [
        paired(right[:, a], right[:, b], names[a], names[b], difference)
        for (a, b), difference in zip(places, differences, strict=True)
    ]


def paired(right: Array, other: Array, first: str, second: str, difference: Estimate) -> Paired:
    """From (P,) whether each row is right."""
    only_first, only_second = int((right & ~other).sum()), int((other & ~right).sum())
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return Paired(first, second, only_first, only_second, p_value, difference)
