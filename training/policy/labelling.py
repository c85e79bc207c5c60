"""Which of several judged responses make a pair. Pure.

Letters: K responses to one prompt, M members of an ensemble.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

FEW = "fewer than two distinct responses with a reward"
CLOSE = "below the minimum gap"
DIVIDED = "below the minimum agreement"


@dataclass(frozen=True, slots=True)
class Judged:
    """A response, its reward, and the reward (M,) of each member where there are several: each on
    the member's own scale, and None where it could not score. ``finished`` is false of a response
    that was cut."""

    text: str
    reward: float | None
    members: tuple[float | None, ...] = ()
    finished: bool = True


class Label(NamedTuple):
    """The better and the worse response, how far apart their rewards are, and the share of members
    that put them in this order (None without members)."""

    chosen: Judged
    rejected: Judged
    gap: float
    agreement: float | None


@dataclass(frozen=True)
class Least:
    """What a pair needs to be kept."""

    gap: float = 0.0
    agreement: float = 0.0


def best_and_worst(responses: Sequence[Judged]) -> Label | None:
    """Of those with a reward, the first of equals; None where two texts are not left."""
    known = [one for one in responses if one.reward is not None]
    if len({one.text for one in known}) < 2:
        return None
    best = max(known, key=reward_of)
    return label(best, min((one for one in known if one.text != best.text), key=reward_of))


def ordered(first: Judged, second: Judged) -> Label | None:
    """Two responses, the better one first; as given where their rewards are equal."""
    if first.reward is None or second.reward is None or first.text == second.text:
        return None
    return label(second, first) if second.reward > first.reward else label(first, second)


def label(chosen: Judged, rejected: Judged) -> Label:
    gap = reward_of(chosen) - reward_of(rejected)
    return Label(chosen, rejected, gap, agreement(chosen, rejected))


def agreement(chosen: Judged, rejected: Judged) -> float | None:
    """The share of members, among those that scored both, that put ``chosen`` above ``rejected``;
    a tie is no agreement. None where no member scored both."""
    scored = [
        (above, below)
        for above, below in zip(chosen.members, rejected.members, strict=True)
        if above is not None and below is not None
    ]
    if not scored:
        return None
    return sum(above > below for above, below in scored) / len(scored)


def fault(found: Label | None, least: Least) -> str | None:
    """Why a pair is left out; None for one that is kept. A gap of zero prefers nothing, and where
    no member scored both, none agrees."""
    if found is None:
        return FEW
    if found.gap <= 0 or found.gap < least.gap:
        return CLOSE
    if least.agreement and (found.agreement is None or found.agreement < least.agreement):
        return DIVIDED
    return None


def reward_of(one: Judged) -> float:
    assert one.reward is not None
    return one.reward
