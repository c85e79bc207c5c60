"""Are members linearly connected? Accuracy on the straight line between two members' weights.

``Acc((1 - l) a + l b)`` for l from 0 to 1 against ``(1 - l) Acc(a) + l Acc(b)``. Members that were
trained from one base stay on or above the line (arXiv:2401.12187 section 3), and then there is
reason to average them; where accuracy falls below it they lie in different basins.

Letters: M members, L places on a line with its ends, P pairs.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from training.blend import Blend, Prepared
from training.evaluate.accuracy import Estimate, accuracies, estimates, is_right, resampled
from training.measure import Array
from training.settings import SettingsError

# By fewer nothing is chosen or refused: one prompt decides by five points and more, and intervals
# over prompts are too narrow.
MIN_PROMPTS = 20


class Line(msgspec.Struct, frozen=True):
    """Accuracy at L places between two members, and how far each is below the straight line."""

    first: str
    second: str
    places: list[float]
    accuracies: list[Estimate]
    below: list[Estimate]

    @classmethod
    def of(
        cls, first: str, second: str, places: Array, right: Array, prompts: Sequence[str]
    ) -> "Line":
        """From which pairs are ordered rightly at each place, (P, L)."""
        below = (1 - places) * right[:, [0]] + places * right[:, [-1]] - right
        return cls(
            first,
            second,
            places.tolist(),
            accuracies(right, prompts),
            estimates(below.mean(axis=0), resampled(below, prompts)),
        )

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
        """Whether a place is shown to be more than ``allowed`` below the line: by the lower end of
        its interval, since with few pairs a place may be points below it by chance."""
        return any(one.low > allowed for one in self.below)

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
                    "lowest": {"at": line.places[line.lowest]} | msgspec.to_builtins(line.depth),
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
    lines = []
    for a, b in itertools.combinations(names, 2):
        between = [
            right_at(blend, {a: 1 - share, b: share}, prepared) for share in places[1:-1].tolist()
        ]
        right = np.stack([known[a], *between, known[b]], axis=1)
        lines.append(Line.of(names[a], names[b], places, right, prompts))
    return Scan(lines, allowed, len(prompts), len(set(prompts)))


def right_at(blend: Blend, weights: dict[int, float], prepared: Sequence[Prepared]) -> Array:
    """Which pairs (P,) the average of some members orders rightly, by raw scores."""
    coefficients = [weights.get(member, 0.0) for member in range(blend.members)]
    found = blend.score(coefficients, prepared)
    return is_right(found.chosen, found.rejected)
