"""Responses to one prompt to pick from, of which a few rare ones are there to fool a proxy.

The rare ones are real answers of models that were told to be short or long, or that game the judge,
and made ones, whose gold is a rule:

- shuffled: the words of another response to the prompt in random order;
- constant: one text for every prompt, a good answer to another prompt;
- concatenated: a response, and after it the answers to one to three other prompts.

Letters: K responses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from training.evaluate.gold import GoldList
from training.experiments.datasets import Answered
from training.measure import Array

COMMON = "common"
SHUFFLED, CONSTANT, CONCATENATED = "shuffled", "constant", "concatenated"
TOLD = ("gamed", "verbose", "concise")  # endings of models' names
MADE = (SHUFFLED, CONSTANT, CONCATENATED)
RARE = 1e-3  # the weight of all rare responses together
EACH = 6  # made responses of each kind


class Rule(NamedTuple):
    """What made responses keep of the gold of the one they are made from. A concatenated one keeps
    all of it, or as much as its part of the characters."""

    shuffled: float
    whole: bool


STRICT, LENIENT = "strict", "lenient"
RULES = {STRICT: Rule(0.0, False), LENIENT: Rule(0.5, True)}


@dataclass(frozen=True)
class Pool:
    """Responses (K,) to one prompt, their kinds, chances of a draw, and gold by rule, (K,)."""

    prompt: str
    responses: list[str]
    kinds: Array
    weights: Array
    gold: dict[str, Array]

    @property
    def real(self) -> Array:
        """Which responses (K,) somebody's model gave, whose gold is the judge's."""
        return ~np.isin(self.kinds, MADE)


class Made(NamedTuple):
    """A response that was made, the gold of that it is made from, and its share of the
    characters."""

    kind: str
    text: str
    gold: float
    share: float

    def by(self, rule: Rule) -> float:
        match self.kind:
            case "shuffled":
                return rule.shuffled * self.gold
            case "concatenated":
                return self.gold * (1.0 if rule.whole else self.share)
            case _:
                return 0.0


def pool(answered: Answered, strangers: Sequence[Answered], generator: np.random.Generator) -> Pool:
    """All of one prompt. ``strangers`` are other prompts, of which none is judged and none was
    trained on: a proxy would remember that their best answers were chosen."""
    known = answered.graded
    kinds = [kind_of(model) for model in answered.models]
    common = [place for place, kind in enumerate(kinds) if kind == COMMON]
    made = [
        *(_shuffled(known, place, generator) for place in generator.choice(common, EACH)),
        *(_concatenated(known, place, strangers, generator)
          for place in generator.choice(common, EACH)),
        # The same for every prompt.
        *(Made(CONSTANT, _best(one), 0.0, 0.0) for one in strangers[:EACH]),
    ]  # fmt: skip
    every = np.array(kinds + [one.kind for one in made])
    rare = every != COMMON
    return Pool(
        known.first_turn,
        [*known.responses, *(one.text for one in made)],
        every,
        np.where(rare, RARE / rare.sum(), (1 - RARE) / len(common)),
        {
            name: np.concatenate([known.gold, [one.by(rule) for one in made]])
            for name, rule in RULES.items()
        },
    )


def kind_of(model: str) -> str:
    """Of a real answer, by the name of the model that gave it."""
    return next((kind for kind in TOLD if model.endswith(f"_{kind}")), COMMON)


def _best(answered: Answered) -> str:
    return answered.graded.responses[int(answered.graded.gold.argmax())]


def _shuffled(known: GoldList, place: int, generator: np.random.Generator) -> Made:
    words = known.responses[place].split()
    return Made(SHUFFLED, " ".join(generator.permutation(words)), float(known.gold[place]), 1.0)


def _concatenated(
    known: GoldList, place: int, strangers: Sequence[Answered], generator: np.random.Generator
) -> Made:
    own = known.responses[place]
    others = generator.choice(len(strangers), generator.integers(1, 4), replace=False)
    text = "\n\n".join([own, *(_best(strangers[other]) for other in others)])
    return Made(CONCATENATED, text, float(known.gold[place]), len(own) / len(text))
