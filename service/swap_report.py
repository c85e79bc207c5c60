"""What two models made of the same items: their ranks, their means, and whom they prefer.

Letters: N items that both scored, G groups of at most a few hundred of them.
"""

from array import array
from collections import Counter
from typing import Any

import numpy as np
from msgspec import Struct

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
LARGEST = 10


class Difference(Struct, frozen=True):
    """One item that was scored apart: its rewards, and its tokens as the old model reads it."""

    old: float
    new: float
    tokens: int


class Report(Struct, frozen=True):
    """Of rewards by the old and by the new model; None where there is too little to tell.

    ``failed`` counts items that the new model could not score, by the type of the error;
    ``skipped`` those that would have waited for too long. ``kendall`` (tau-b) is the mean over
    ``groups``, which are answers to one prompt in one request; ``changed_preferences`` the share of
    their ``pairs``, of two answers that the old model tells apart, whose order the new one has not.
    """

    compared: int
    failed: dict[str, int]
    skipped: int
    rank_correlation: float | None
    groups: int
    kendall: float | None
    pairs: int
    changed_preferences: float | None
    old_mean: float | None
    new_mean: float | None
    mean_shift: float | None
    old_std: float | None
    new_std: float | None
    std_ratio: float | None
    old_tokens: int
    new_tokens: int
    largest: list[Difference]


class Compared:
    """Rewards and sizes of items that both models scored, and nothing else of them."""

    def __init__(self) -> None:
        self._old, self._new = array("d"), array("d")
        self._groups, self._old_tokens, self._new_tokens = array("q"), array("q"), array("q")
        self.failed: Counter[str] = Counter()
        self.skipped = 0

    def __len__(self) -> int:
        """Items that the new model tried."""
        return len(self._old) + self.failed.total()

    def add(self, group: int, old: float, new: float, old_tokens: int, new_tokens: int) -> None:
        self._old.append(old)
        self._new.append(new)
        self._groups.append(group)
        self._old_tokens.append(old_tokens)
        self._new_tokens.append(new_tokens)

    def report(self) -> Report:
        """Of what was added so far. Takes a while: seconds for a hundred thousand items."""
        old, new = np.array(self._old, float), np.array(self._new, float)
        means, stds = _each(np.mean, old, new), _each(np.std, old, new)
        agreement = Agreement(old, new, np.array(self._groups, int))
        return Report(
            compared=len(old),
            failed=dict(self.failed),
            skipped=self.skipped,
            rank_correlation=spearman(old, new),
            groups=agreement.groups,
            kendall=agreement.kendall,
            pairs=agreement.pairs,
            changed_preferences=agreement.changed_share,
            old_mean=means[0],
            new_mean=means[1],
            mean_shift=None if means[0] is None or means[1] is None else means[1] - means[0],
            old_std=stds[0],
            new_std=stds[1],
            std_ratio=stds[1] / stds[0] if stds[0] and stds[1] is not None else None,
            old_tokens=sum(self._old_tokens),
            new_tokens=sum(self._new_tokens),
            largest=self._largest(old, new),
        )

    def _largest(self, old: Floats, new: Floats) -> list[Difference]:
        first = np.argsort(-abs(new - old), kind="stable")[:LARGEST].tolist()
        return [Difference(self._old[i], self._new[i], self._old_tokens[i]) for i in first]


def _each(what: Any, *rows: Floats) -> list[float | None]:
    return [float(what(row)) if len(row) else None for row in rows]


def spearman(first: Floats, second: Floats) -> float | None:
    """Correlation of ranks; None where one has a single value."""
    if len(first) < 2:
        return None
    one, other = ranks(first), ranks(second)
    if not one.std() or not other.std():
        return None
    return float(np.corrcoef(one, other)[0, 1])


def ranks(values: Floats) -> Floats:
    """From 1; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    found: Floats = (last - (count - 1) / 2)[place]
    return found


class Agreement:
    """Pairs within groups: whom the old model prefers, and whether the new one does too."""

    def __init__(self, old: Floats, new: Floats, groups: np.ndarray[Any, Any]):
        self.groups = self.pairs = self._changed = 0
        taus = []
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order])) + 1
        for places in np.split(order, starts):
            if len(places) > 1:
                self.groups += 1
                taus.append(self._within(old[places], new[places]))
        told = [tau for tau in taus if tau is not None]
        self.kendall = float(np.mean(told)) if told else None

    @property
    def changed_share(self) -> float | None:
        return self._changed / self.pairs if self.pairs else None

    def _within(self, old: Floats, new: Floats) -> float | None:
        """Kendall's tau-b of a group; None where a model tells nothing apart."""
        above = np.triu_indices(len(old), 1)
        before = np.sign(old[above[0]] - old[above[1]])
        after = np.sign(new[above[0]] - new[above[1]])
        preferred = before != 0
        self.pairs += int(preferred.sum())
        self._changed += int((preferred & (before != after)).sum())
        size = np.sqrt(preferred.sum() * (after != 0).sum())
        return float((before * after).sum() / size) if size else None
