"""Simulated rollout traffic: bursts of synchronous RL, and single sequences that come at random."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from fleet_plan import Sized
from fleet_replica import Request


@dataclass(frozen=True)
class Bursts:
    """Every ``every_seconds`` ``prompts`` new prompts with ``responses`` each.

    Requests hold ``a_request`` responses to one prompt and leave within ``spread_seconds``, in any
    order: rollouts that end early are sent early. Of all sequences a part ``repeated`` was asked in
    an earlier burst, word for word: a step done again, a second evaluation.
    """

    prompts: int = 512
    responses: int = 8
    a_request: int = 8
    every_seconds: float = 120.0
    spread_seconds: float = 0.0
    repeated: float = 0.0
    bursts: int = 8
    prompt_tokens: int = 160
    response_tokens: int = 120

    def requests(self, seed: int = 0) -> Iterator[list[Request]]:
        """The requests of each burst, in the order in which they are sent."""
        spread, count = random.Random(seed), itertools.count()
        before: list[list[Sized]] = []
        for number in range(self.bursts):
            groups = [
                spread.choice(before)
                if before and spread.random() < self.repeated
                else self._group(spread, count)
                for _ in range(self.prompts)
            ]
            before += groups
            yield self._sent(spread, groups, number * self.every_seconds)

    def _group(self, spread: random.Random, count: Iterator[int]) -> list[Sized]:
        prompt, asked = next(count), around(spread, self.prompt_tokens)
        return [
            Sized(prompt, next(count), asked, around(spread, self.response_tokens))
            for _ in range(self.responses)
        ]

    def _sent(
        self, spread: random.Random, groups: list[list[Sized]], start: float
    ) -> list[Request]:
        size = self.a_request
        parts = [group[i : i + size] for group in groups for i in range(0, len(group), size)]
        spread.shuffle(parts)
        times = sorted(start + spread.uniform(0, self.spread_seconds) for _ in parts)
        return [Request(part, sent) for part, sent in zip(parts, times, strict=True)]


def around(spread: random.Random, mean: int) -> int:
    """Tokens with the long tail that texts have: log-normal, sigma 0.5, of this mean."""
    return max(1, round(mean * spread.lognormvariate(-0.125, 0.5)))


def poisson(
    rate: float, count: int, tokens: Iterator[int], seed: int, together: bool = False
) -> list[Request]:
    """``count`` requests of one sequence each, ``rate`` a second, with no prompt in common. All of
    one caller, so first come, first served, if ``together``."""
    spread, now = random.Random(seed), 0.0
    found: list[Request] = []
    for number in range(count):
        now += spread.expovariate(rate)
        request = Request([Sized(number, number, 0, next(tokens))], now)
        if together and found:
            request.caller = found[0].caller
        found.append(request)
    return found
