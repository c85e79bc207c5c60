"""Lists of responses to one prompt whose gold is known: what a judge gave each of them."""

from dataclasses import dataclass

import numpy as np

from plaudit.checkpoint import Message
from training.data.groups import Group
from training.data.shapes import first_user_turn
from training.data.sources import Loaded
from training.evaluate.accuracy import Array


@dataclass(frozen=True)
class GoldList:
    """Responses (K,) with their gold (K,), the judge's probability that each beats the reference;
    ``line`` is where the row stands in its file, ``places`` where its responses stand in it."""

    prompt: list[Message]
    responses: list[str]
    gold: Array
    line: int
    places: list[int]

    @property
    def first_turn(self) -> str:
        return first_user_turn(self.prompt)


def gold_lists(loaded: Loaded) -> list[GoldList]:
    """The lists of two responses or more of a source of win probabilities. Without the reference,
    to which all are compared, and what no comparison holds: its twins, and ties at one half."""
    assert loaded.source.shape == "win_probabilities"
    found = [_gold_list(group) for group in loaded.groups]
    return [one for one in found if len(one.responses) > 1]


def _gold_list(group: Group) -> GoldList:
    known = [one for one in group.comparisons if group.responses[one.chosen].strip()]
    return GoldList(
        list(group.prompt),
        [group.responses[one.chosen] for one in known],
        np.array([one.soft_label for one in known]),
        group.line,
        [one.chosen for one in known],
    )
