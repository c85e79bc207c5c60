"""Two policies' answers to the same prompts, by the same service: who wins, and by what. Pure.

Letters: P prompts, R arms: either policy with one sample, and with the best of several.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from plaudit.calibration import Calibration
from training.data.jsonlines import DataError
from training.evaluate.accuracy import Array, Estimate, accuracies
from training.length_bias import curve
from training.policy.candidates import Candidates

Rows = Sequence[Candidates]


class Arm(NamedTuple):
    """A policy, and of how many of its samples the best is taken."""

    policy: str
    samples: int

    @property
    def name(self) -> str:
        return f"{self.policy}, best of {self.samples}" if self.samples > 1 else self.policy


@dataclass(frozen=True)
class Picked:
    """What the arms answer: rewards and characters (P, R) on shared prompts."""

    arms: list[Arm]
    prompts: list[str]
    rewards: Array
    characters: Array


class ArmFigures(Struct, frozen=True):
    """Mean reward with its interval, over prompts, and mean characters."""

    reward: Estimate
    characters: float


class Wins(Struct, frozen=True):
    """How often ``first`` has the higher reward on a prompt; equal rewards are half a win each."""

    first: str
    second: str
    rate: Estimate


class Versus(Struct, frozen=True):
    prompts: int
    arms: dict[str, ArmFigures]
    wins: list[Wins]


def picked(policies: Mapping[str, Rows], samples: Sequence[int]) -> Picked:
    """On the prompts to which both policies have enough responses with a reward. DataError where
    there are none."""
    arms = [Arm(name, count) for name in policies for count in samples]
    by_prompt = {name: {one.key: one for one in rows} for name, rows in policies.items()}
    first, *others = by_prompt.values()
    keys = [
        key
        for key in first
        if all(key in one for one in others)
        and all(len(one[key].known()) >= max(samples) for one in by_prompt.values())
    ]
    if not keys:
        raise DataError(
            f"no prompt has {max(samples)} responses with a reward of both policies: answer the "
            "same prompts, with as many samples as the largest of samples"
        )
    found = [[best(by_prompt[arm.policy][key], arm.samples) for arm in arms] for key in keys]
    values = np.array(found, dtype=float)
    return Picked(arms, [repr(key) for key in keys], values[:, :, 0], values[:, :, 1])


def best(one: Candidates, samples: int) -> tuple[float, int]:
    """Reward and characters of the best of the first ``samples`` responses that have a reward."""
    place, reward = max(one.known()[:samples], key=lambda known: known[1])
    return reward, len(one.responses[place])


def figures(found: Picked) -> Versus:
    """Every arm, and every arm of the first policy against every one of the second."""
    own = accuracies(found.rewards, found.prompts)
    characters = found.characters.mean(axis=0)
    first, *_, second = dict.fromkeys(arm.policy for arm in found.arms)
    pairs = [
        (one, other)
        for one, a in enumerate(found.arms)
        for other, b in enumerate(found.arms)
        if (a.policy, b.policy) == (first, second)
    ]
    won = np.stack([wins(found.rewards[:, a], found.rewards[:, b]) for a, b in pairs], axis=1)
    return Versus(
        len(found.prompts),
        {
            arm.name: ArmFigures(estimate, float(length))
            for arm, estimate, length in zip(found.arms, own, characters, strict=True)
        },
        [
            Wins(found.arms[a].name, found.arms[b].name, rate)
            for (a, b), rate in zip(pairs, accuracies(won, found.prompts), strict=True)
        ],
    )


def wins(one: Array, other: Array) -> Array:
    """(P,): 1 where one is higher, one half where they are equal."""
    found: Array = (one > other) + 0.5 * (one == other)
    return found


def without_length(policies: Mapping[str, Rows]) -> dict[str, list[Candidates]]:
    """The same answers with rewards less what their length alone explains, by one curve through
    the responses of all policies; the mean of all rewards stays. SettingsError for too few."""
    known = [
        (reward, len(one.responses[place]))
        for rows in policies.values()
        for one in rows
        for place, reward in one.known()
    ]
    rewards, characters = np.array(known, dtype=float).T
    curved = Calibration("length", curve=curve.fit(rewards, characters))
    mean = float(np.mean([curved.expected(length) for length in characters.tolist()]))

    def calibrated(one: Candidates) -> Candidates:
        assert one.rewards is not None
        given = zip(one.rewards, one.responses, strict=True)
        return replace(
            one,
            rewards=tuple(
                None if reward is None else curved.reward(reward, len(text)) + mean
                for reward, text in given
            ),
        )

    return {name: [calibrated(one) for one in rows] for name, rows in policies.items()}
