"""What picking the best of n by each proxy gives, in gold and in the proxy itself, exactly.

Letters: N responses of all pools, G prompts that judge, S numbers of draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluate.accuracy import Estimate, accuracies, differences
from training.evaluate.best_of_n import Curve, fit, kl, picked
from training.experiments.adversarial_pool import RULES, STRICT
from training.experiments.proxies import Data
from training.measure import Array

REAL = "real"
FEW = 2 ** np.arange(6)  # of the real responses
MANY = np.unique(np.geomspace(1, 10**6, 25).round())  # of the adversarial pool


@dataclass(frozen=True)
class Picks:
    """Of one method: gold (G, S) of the pick among the real responses, ``FEW`` draws, and in the
    adversarial pool, ``MANY`` draws, by each rule of gold; and there the proxy itself."""

    gold: dict[str, Array]
    proxy: Array
    prompts: list[str]

    @classmethod
    def mean(cls, found: "Sequence[Picks]") -> "Picks":
        """Over members, or seeds."""
        gold = {pool: np.mean([one.gold[pool] for one in found], axis=0) for pool in found[0].gold}
        return cls(gold, np.mean([one.proxy for one in found], axis=0), found[0].prompts)

    def estimates(self, pool: str) -> list[Estimate]:
        """The mean over prompts, by number of draws."""
        return accuracies(self.gold[pool], self.prompts)

    def peak(self, pool: str) -> int:
        """The place among the numbers of draws where gold is largest."""
        return int(self.gold[pool].mean(axis=0).argmax())

    def less(self, place: int, other: "Picks", other_place: int, pool: str) -> Estimate:
        """Gold at one number of draws less another method's at another, on the same prompts."""
        both = np.stack([other.gold[pool][:, other_place], self.gold[pool][:, place]], axis=1)
        return differences(both, self.prompts, baseline=0)[1]

    def curve(self, pool: str) -> Curve:
        """Of the mean over prompts."""
        draws = FEW if pool == REAL else MANY
        gold = self.gold[pool].mean(axis=0)
        return fit(kl(draws), gold - gold[0])


def picks_of(data: Data, proxies: Mapping[str, Sequence[Array]]) -> dict[str, Picks]:
    """By method, of the rewards (N,) that decide; a method of several is their mean."""
    return {
        method: Picks.mean([_picks(data, rewards) for rewards in several])
        for method, several in proxies.items()
    }


def _picks(data: Data, rewards: Array) -> Picks:
    gold: dict[str, list[Array]] = {REAL: [], **{rule: [] for rule in RULES}}
    proxy = []
    for pool, start in data.places():
        own = rewards[start : start + len(pool.responses)]
        real = np.flatnonzero(pool.real)
        even = np.full(len(real), 1 / len(real))
        gold[REAL].append(picked(own[real], even, FEW) @ pool.gold[STRICT][real])
        chances = picked(own, pool.weights, MANY)
        proxy.append(chances @ own)
        for rule in RULES:
            gold[rule].append(chances @ pool.gold[rule])
    prompts = [pool.prompt for pool, _ in data.places()]
    return Picks({name: np.array(one) for name, one in gold.items()}, np.array(proxy), prompts)
