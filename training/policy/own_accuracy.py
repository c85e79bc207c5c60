"""How well a policy's own likelihood orders responses as their rewards do.

Letters: P pairs of responses to one prompt with different rewards, R policies.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from training.data.jsonlines import DataError
from training.evaluate.accuracy import Array, Estimate, accuracies, differences
from training.policy.candidates import Candidates

# By prompt, the log-probability of each response; None where it did not fit.
Likelihoods = Sequence[Sequence[float | None]]


class Ordered(Struct, frozen=True):
    """Of one policy: the share of pairs whose better response it finds likelier, and that less the
    first policy's, on the same pairs. A tie is wrong."""

    accuracy: Estimate
    less_first: Estimate
    pairs: int
    prompts: int


def ordered(rows: Sequence[Candidates], policies: Mapping[str, Likelihoods]) -> dict[str, Ordered]:
    """By name. DataError where no prompt has two responses of different rewards."""
    found = [right(rows, likelihoods) for likelihoods in policies.values()]
    prompts = found[0][1]
    if not prompts:
        raise DataError(
            "no held-out prompt has two responses with different rewards: give more candidates, "
            "or raise split.test"
        )
    values = np.stack([one for one, _ in found], axis=1)
    estimates = zip(accuracies(values, prompts), differences(values, prompts, 0), strict=True)
    return {
        name: Ordered(own, less, len(values), len(set(prompts)))
        for name, (own, less) in zip(policies, estimates, strict=True)
    }


def right(rows: Sequence[Candidates], likelihoods: Likelihoods) -> tuple[Array, list[str]]:
    """(P,): whether each pair is ordered as by reward; and the prompt of each."""
    found, prompts = [], []
    for one, own in zip(rows, likelihoods, strict=True):
        known = [(reward, own[place]) for place, reward in one.known()]
        fit = [(reward, p) for reward, p in known if p is not None]
        for place, (reward, p) in enumerate(fit):
            for other_reward, other in fit[:place]:
                if reward != other_reward:
                    found.append((p - other) * (reward - other_reward) > 0)
                    prompts.append(repr(one.key))
    return np.array(found, dtype=float), prompts
