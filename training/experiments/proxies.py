"""Reward models to be optimised against: what they are trained on, and their rewards of pools.

Trained on pairs of AlpacaEval's answers, the better one by the judge whose word is gold later: so a
proxy is a noisy copy of gold, as in arXiv:2210.10760. Pairs of RMB would add another judge's
style to what is asked.

Letters: P pairs, N responses of all pools, M members.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from plaudit.aggregate import aggregate
from plaudit.wire import Aggregate
from training.data.shapes import Pair
from training.data.splits import Fold, Split
from training.evaluate.baselines import LENGTH_ONLY
from training.experiments import bag_of_words, members
from training.experiments.adversarial_pool import STRICT, Pool, pool
from training.experiments.bag_of_words import Labels, Texts, features_of
from training.experiments.datasets import Answered
from training.experiments.members import Recipe, Shared
from training.measure import Array

SPLIT = Split(validation=0.1, test=0.3, fold=Fold(count=10, held_out=0))
PAIRS = 12  # of each prompt
START_EPOCHS = 2
SINGLE, WARM, GOLD = "single", "WARM", "gold itself"


@dataclass(frozen=True)
class Method:
    """How members' rewards become the proxy."""

    aggregate: Aggregate
    coefficient: float = 0.0


METHODS = {
    "mean": Method("mean"),
    "WCO": Method("wco"),
    "UWO, λ = 0.5": Method("uwo", 0.5),
    "UWO, λ = 5": Method("uwo", 5.0),
    "LCB, k = 1": Method("lcb", 1.0),
    "LCB, k = 3": Method("lcb", 3.0),
}


@dataclass(frozen=True)
class Data:
    """Training pairs, places of the start's and of the members', and the pools that calibrate and
    that judge, one after another in ``features``; ``owner`` (N,) is the pool of each response."""

    texts: Texts
    start: Array
    train: Array
    pools: list[Pool]
    judged: Array
    features: csr_matrix
    characters: Array
    owner: Array

    def places(self) -> list[tuple[Pool, int]]:
        """The pools that judge, and where the responses of each start."""
        judging = np.flatnonzero(self.judged)
        starts = np.searchsorted(self.owner, judging).tolist()
        return [(self.pools[p], start) for p, start in zip(judging.tolist(), starts, strict=True)]

    @classmethod
    def of(cls, answered: Sequence[Answered]) -> "Data":
        sides = np.array([SPLIT.side(one.graded) for one in answered])
        generator = np.random.default_rng(0)
        found = {
            side: [answered[place] for place in np.flatnonzero(sides == side).tolist()]
            for side in ("held_out", "train", "validation", "test")
        }
        pairs = {
            side: [pair for one in found[side] for pair in pairs_of(one, generator)]
            for side in ("held_out", "train")
        }
        both = pairs["held_out"] + pairs["train"]
        # Prompts that no proxy is trained on and that do not judge.
        strangers = found["validation"]
        pools = [
            pool(one, [other for other in strangers if other is not one], generator)
            for one in strangers + found["test"]
        ]
        responses = [text for one in pools for text in one.responses]
        prompts = [one.prompt for one in pools for _ in one.responses]
        return cls(
            Texts.of(both),
            np.arange(len(pairs["held_out"])),
            np.arange(len(pairs["held_out"]), len(both)),
            pools,
            np.arange(len(pools)) >= len(found["validation"]),
            features_of(prompts, responses),
            np.array([len(text) for text in responses]),
            np.repeat(np.arange(len(pools)), [len(one.responses) for one in pools]),
        )


def pairs_of(answered: Answered, generator: np.random.Generator) -> list[Pair]:
    """Random pairs of one prompt's responses, the one with more gold chosen."""
    known, found = answered.graded, []
    for _ in range(PAIRS):
        one, other = generator.choice(len(known.responses), 2, replace=False).tolist()
        if known.gold[one] == known.gold[other] or known.responses[one] == known.responses[other]:
            continue
        better, worse = (one, other) if known.gold[one] > known.gold[other] else (other, one)
        prompt = tuple(known.prompt)
        texts = known.responses[better], known.responses[worse]
        found.append(Pair(prompt, *texts, "alpacaeval", "alpacaeval"))
    return found


def rewards_of(
    data: Data, recipes: Sequence[Recipe], epochs: int, noise: float, seed: int
) -> tuple[Array, Array]:
    """Rewards (N, M) of every response by each member, and (N,) by the mean of their weights."""
    count = len(data.texts.places)
    wrong = np.zeros(count, bool)
    wrong[data.train] = np.random.default_rng(seed).random(len(data.train)) < noise
    given = Labels.given(count)
    start = bag_of_words.train_on_pairs(data.texts, given, data.start, START_EPOCHS, seed)
    shared = Shared(data.texts, replace(given, swapped=wrong), data.train, start)
    *_, models = members.together(shared, recipes, epochs, seed)
    real = np.concatenate([one.real for one in data.pools])
    reference = np.flatnonzero(real & ~data.judged[data.owner])
    both = [*models, bag_of_words.averaged(models)]
    rewards = members.rewards_of(both, data.features, reference)
    return rewards[:-1].T, rewards[-1]


def proxies(data: Data, rewards: Array, warm: Array) -> dict[str, list[Array]]:
    """By method the rewards (N,) that decide, of single members those of each; beside them length
    alone, and gold itself."""
    found = {
        name: [aggregate(rewards, method.aggregate, method.coefficient)]
        for name, method in METHODS.items()
    }
    gold = np.concatenate([one.gold[STRICT] for one in data.pools])
    beside = {LENGTH_ONLY: [data.characters], GOLD: [gold]}
    return {SINGLE: list(rewards.T), **found, WARM: [warm], **beside}
