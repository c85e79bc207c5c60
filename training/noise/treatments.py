"""What may be done to pairs by their strength (arXiv:2401.06080 section 2). Pure, over data rows.

A band is a range of quantiles of ``mean_diff``: ``0:0.1`` is the weakest tenth, which on noisy data
is mostly mislabelled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from training.noise.strength import MEAN

Row = dict[str, Any]
TREATED = "treatments"


class TreatmentError(ValueError):
    """Treatments that cannot stand together; the text says which."""


@dataclass(frozen=True)
class Treatment:
    """One of ``TREATMENTS`` for the pairs of a band, with its value where it takes one."""

    name: str
    low: float
    high: float
    value: float = 0.0


def flip(row: Row, value: float) -> Row:
    """The other response is the better one."""
    swapped = {"chosen": row["rejected"], "rejected": row["chosen"], MEAN: -row[MEAN]}
    return row | swapped


def soften(row: Row, value: float) -> Row:
    """The label is as likely as the members find it: ``sigmoid(mean_diff)``."""
    return row | {"soft_label": float(expit(row[MEAN]))}


def smooth(row: Row, value: float) -> Row:
    """The label is flipped with probability ``value``."""
    return row | {"soft_label": 1 - value}


def add_margin(row: Row, value: float) -> Row:
    """The chosen score is to lead by ``value * mean_diff``."""
    return row | {"target_margin": value * row[MEAN]}


# In the order in which they are applied: a margin is that of the flipped label.
TREATMENTS: dict[str, Callable[[Row, float], Row]] = {
    "flip": flip,
    "soft": soften,
    "smooth": smooth,
    "margin": add_margin,
}
DROP = "drop"
# Of two that write one thing, or undo one another, a pair gets one.
EXCLUSIVE = ({"flip", DROP}, {"soft", "smooth"})


def treat(rows: Sequence[Row], treatments: Sequence[Treatment]) -> list[Row]:
    """Rows in their order, each with the names of what was done to it; dropped ones are gone."""
    check(treatments)
    quantile = quantiles([row[MEAN] for row in rows])
    treated = []
    for row, at in zip(rows, quantile, strict=True):
        found = {one.name: one.value for one in treatments if one.low <= at < one.high}
        if DROP in found:
            continue
        for name, function in TREATMENTS.items():
            if name in found:
                row = function(row, found[name])
        treated.append(row | {TREATED: [name for name in TREATMENTS if name in found]})
    return treated


def quantiles(means: Sequence[float]) -> list[float]:
    """Each pair's place from 0 (weakest) towards 1; equal strengths are ordered as they come."""
    places = np.empty(len(means))
    places[np.argsort(means, kind="stable")] = np.arange(len(means)) / len(means)
    return [float(place) for place in places]


def check(treatments: Sequence[Treatment]) -> None:
    for i, one in enumerate(treatments):
        for other in treatments[:i]:
            together = {one.name, other.name}
            clash = len(together) == 1 or together in EXCLUSIVE
            if clash and one.low < other.high and other.low < one.high:
                raise TreatmentError(
                    f"{other.name} {other.low:g}:{other.high:g} and {one.name} "
                    f"{one.low:g}:{one.high:g} overlap; give each pair one of them"
                )
