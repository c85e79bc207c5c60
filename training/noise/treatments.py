"""What may be done to pairs by their strength (arXiv:2401.06080 section 2). Pure, over data rows.

A band is a range of quantiles of ``mean_diff``: ``0:0.1`` is the weakest tenth, which on noisy data
is mostly mislabelled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from training.data.jsonlines import Row
from training.data.shapes import FINISHED
from training.noise.strength import MEAN

TREATED = "treatments"
# What a source may have said of the label.
GIVEN = ("soft_label", "target_margin")


class TreatmentError(ValueError):
    """Treatments that cannot be done; the text says which."""


@dataclass(frozen=True)
class Kind:
    """A treatment: how its option is written, what it does, and the function of a row and the
    option's value. None leaves the row out."""

    form: str
    help: str
    apply: Callable[[Row, float], Row | None]


def flip(row: Row, _: float) -> Row:
    """The other response is the better one. What was given of the old label goes with it."""
    kept = {name: value for name, value in row.items() if name not in GIVEN}
    turned = {"chosen": row["rejected"], "rejected": row["chosen"], MEAN: -row[MEAN]}
    ends = {one: row[other] for one, other in (FINISHED, FINISHED[::-1]) if other in row}
    return kept | turned | ends


def soften(row: Row, _: float) -> Row:
    """The label is as likely as the members find it."""
    return row | {"soft_label": float(expit(row[MEAN]))}


def smooth(row: Row, share: float) -> Row:
    return row | {"soft_label": 1 - share}


def add_margin(row: Row, scale: float) -> Row:
    return row | {"target_margin": scale * row[MEAN]}


# In the order in which they are applied: a margin is that of the flipped label.
KINDS = {
    "drop": Kind("LOW:HIGH", "leave the pairs out", lambda row, _: None),
    "flip": Kind("LOW:HIGH", "swap chosen and rejected, and the sign of mean_diff", flip),
    "soft": Kind("LOW:HIGH", "soft_label = sigmoid(mean_diff)", soften),
    "smooth": Kind("LOW:HIGH=A", "soft_label = 1 - A", smooth),
    "margin": Kind("LOW:HIGH=SCALE", "target_margin = SCALE * mean_diff", add_margin),
}
# Of two that write one thing, or undo one another, a pair gets one.
EXCLUSIVE = ({"flip", "drop"}, {"soft", "smooth"})


@dataclass(frozen=True)
class Treatment:
    """One of ``KINDS`` for the pairs of a band, with its value where it takes one."""

    name: str
    low: float
    high: float
    value: float = 0.0


def treat(rows: Sequence[Row], treatments: Sequence[Treatment]) -> list[Row]:
    """Rows in their order, each with the names of what was done to it; dropped ones are gone.
    Without treatments they stay as they are, to be treated another time."""
    check(treatments)
    if any(TREATED in row for row in rows):  # of what was dropped the others say nothing
        raise TreatmentError(
            "the rows have been treated before, and bands of them would be others: start from the "
            "file of plaudit strength"
        )
    if not treatments:
        return list(rows)
    treated = []
    for row, at in zip(rows, quantiles([row[MEAN] for row in rows]), strict=True):
        values = {one.name: one.value for one in treatments if one.low <= at < one.high}
        names = [name for name in KINDS if name in values]
        found: Row | None = row
        for name in names:
            if found is not None:
                found = KINDS[name].apply(found, values[name])
        if found is not None:
            treated.append(found | {TREATED: names})
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
