"""Are members linearly connected? Accuracy on the straight line between two members' weights.

``Acc((1 - l) a + l b)`` for l from 0 to 1 against ``(1 - l) Acc(a) + l Acc(b)``. Members that were
trained from one base stay on or above the line (arXiv:2401.12187 section 3), and then there is
reason to average them; where accuracy falls below it they lie in different basins.

Letters: M members, N lines, L places on a line with its ends, P pairs.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from training.blend import Blend, Prepared
from training.evaluate.accuracy import (
    Estimate,
    accuracies,
    at_least,
    estimates,
    is_right,
    weighted_means,
)
from training.measure import Array
from training.settings import SettingsError

# By fewer nothing is chosen or refused: one prompt decides by five points and more, and intervals
# over prompts are too narrow.
MIN_PROMPTS = 20


class Line(msgspec.Struct, frozen=True):
    """Accuracy at L places between two members, how far each is below the straight line, and how
    far at the least: all places of all lines of a scan at once."""

    first: str
    second: str
    places: list[float]
    accuracies: list[Estimate]
    below: list[Estimate]
    at_least: list[float]

    @property
    def lowest(self) -> int:
        """Which place between the ends is furthest below the straight line."""
        return 1 + int(np.argmax([one.value for one in self.below[1:-1]]))

    @property
    def depth(self) -> Estimate:
        """How far that is; negative where every place is above the line."""
        return self.below[self.lowest]

    @property
    def above(self) -> Estimate:
        """The same upwards."""
        depth = self.depth
        # Subtracted from 0, since -0.0 prints as -0.000.
        return Estimate(0 - depth.value, 0 - depth.high, 0 - depth.low)

    def falls(self, allowed: float) -> bool:
        """Whether a place is shown to be more than ``allowed`` below the line: by what it is at the
        least, since with few pairs a place may be points below it by chance, and one of many
        places all the more."""
        return any(least > allowed for least in self.at_least)

    def __str__(self) -> str:
        above = self.above
        return (
            f"{self.first} to {self.second}: lowest at {self.places[self.lowest]:.2f}, "
            f"{above:+.3f} from the straight line"
        )


class Scan(msgspec.Struct, frozen=True):
    """The lines between every two of some members, how far they may fall, and by how many pairs of
    how many prompts."""

    lines: list[Line]
    allowed: float
    pairs: int
    prompts: int

    @property
    def decides(self) -> bool:
        """Whether there are prompts enough to show that a line falls."""
        return self.prompts >= MIN_PROMPTS

    @property
    def fallen(self) -> list[Line]:
        return [line for line in self.lines if self.decides and line.falls(self.allowed)]

    def refuse_fallen(self) -> None:
        """SettingsError naming the members that are not connected."""
        if self.fallen:
            raise SettingsError(
                f"members are not linearly connected: by {self.pairs} pairs, "
                f"{'; '.join(map(str, self.fallen))}, where {self.allowed:g} below it are allowed. "
                "Leave out a member, or average all the same with --force"
            )

    def summary(self) -> dict[str, Any]:
        """What a checkpoint says of it."""
        return {
            "allowed": self.allowed,
            "forced": bool(self.fallen),
            "pairs": self.pairs,
            "prompts": self.prompts,
            "lines": [
                {
                    "members": [line.first, line.second],
                    "places": line.places,
                    "accuracies": [one.value for one in line.accuracies],
                    "lowest": {
                        "at": line.places[line.lowest],
                        "at_least": line.at_least[line.lowest],
                    }
                    | msgspec.to_builtins(line.depth),
                }
                for line in self.lines
            ],
        }


def scan(
    blend: Blend,
    names: dict[int, str],
    prepared: Sequence[Prepared],
    prompts: Sequence[str],
    points: int,
    allowed: float,
) -> Scan:
    """Every two of the members ``names``, by their place in ``blend``, at ``points`` places."""
    places = np.linspace(0, 1, points)
    known = {member: right_at(blend, {member: 1.0}, prepared) for member in names}
    found = {}
    for a, b in itertools.combinations(names, 2):
        between = [
            right_at(blend, {a: 1 - share, b: share}, prepared) for share in places[1:-1].tolist()
        ]
        found[names[a], names[b]] = np.stack([known[a], *between, known[b]], axis=1)
    return Scan(lines(found, places, prompts), allowed, len(prompts), len(set(prompts)))


def lines(right: dict[tuple[str, str], Array], places: Array, prompts: Sequence[str]) -> list[Line]:
    """From which pairs are ordered rightly at the places (L,) between two members, (P, L) each."""
    if not right:
        return []
    stacked = np.stack(list(right.values()), axis=1)
    straight = (1 - places) * stacked[..., [0]] + places * stacked[..., [-1]]
    below = weighted_means(straight - stacked, np.ones(stacked.shape[:2]), prompts)
    least = at_least(below.values, below.draws)
    return [
        Line(
            first,
            second,
            places.tolist(),
            accuracies(own, prompts),
            estimates(below.values[line], below.draws[:, line]),
            least[line].tolist(),
        )
        for line, ((first, second), own) in enumerate(right.items())
    ]


def right_at(blend: Blend, weights: dict[int, float], prepared: Sequence[Prepared]) -> Array:
    """Which pairs (P,) the average of some members orders rightly, by raw scores."""
    coefficients = [weights.get(member, 0.0) for member in range(blend.members)]
    found = blend.score(coefficients, prepared)
    return is_right(found.chosen, found.rejected)
