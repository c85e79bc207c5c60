"""How a score becomes a reward.

Rewards of different models are on one scale, and with a length curve the part of a score that the
response's length alone explains is taken off (arXiv:2409.17407).
"""

from bisect import bisect_left
from itertools import pairwise
from typing import Annotated, Literal

import msgspec


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``none``; ``standardise``: ``(score - mean) / std``; ``length``: ``(score - expected - mean)
    / std``, where ``expected`` is the curve at the response's length.

    ``curve`` holds knots (characters, score), rising in characters: straight between two of them,
    constant beyond the first and the last. ``reference`` names what it was fitted to, with its
    digest.
    """

    kind: Literal["none", "standardise", "length"] = "none"
    mean: float = 0.0
    std: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    curve: tuple[tuple[float, float], ...] = ()
    reference: str = ""
    reference_digest: str = ""

    def __post_init__(self) -> None:
        if bool(self.curve) != self.reads_length:
            raise ValueError("kind length has a curve, no other kind has one")
        characters = [knot[0] for knot in self.curve]
        if any(left >= right for left, right in pairwise(characters)):
            raise ValueError("the knots of curve do not rise in characters")

    @property
    def reads_length(self) -> bool:
        return self.kind == "length"

    def reward(self, score: float, characters: float | None = None) -> float:
        """The reward of a raw score; ``characters``, of the response, where a curve reads them."""
        if self.kind == "none":
            return score
        if self.reads_length:
            assert characters is not None
            score -= self.expected(characters)
        return (score - self.mean) / self.std

    def expected(self, characters: float) -> float:
        """The score that a response of this length has on average."""
        place = bisect_left(self.curve, characters, key=lambda knot: knot[0])
        if place == 0 or place == len(self.curve):
            return self.curve[min(place, len(self.curve) - 1)][1]
        (left, low), (right, high) = self.curve[place - 1 : place + 1]
        return low + (high - low) * (characters - left) / (right - left)
