"""How policies answer prompts that none of them is tuned on: mean rewards beside lengths.

Letters: P prompts, R policies.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from training.data.jsonlines import DataError
from training.evaluate.accuracy import Array, Estimate, accuracies, differences
from training.policy.candidates import Candidates

Rows = Sequence[Candidates]


class Answers(Struct, frozen=True):
    """Of one policy: the mean of its rewards over prompts, that less the first policy's on the same
    prompts, and how long its responses are. ``finished`` is the share that came to an end."""

    reward: Estimate
    less_first: Estimate
    characters: float
    finished: float
    prompts: int
    responses: int


def compare(policies: Mapping[str, Rows]) -> dict[str, Answers]:
    """By name, over the prompts on which every policy has a reward. DataError if there is none."""
    means = {name: mean_rewards(rows) for name, rows in policies.items()}
    shared = [
        key for key in next(iter(means.values())) if all(key in one for one in means.values())
    ]
    if not shared:
        raise DataError("the policies share no prompt on which each has a reward")
    values = np.array([[one[key] for one in means.values()] for key in shared])
    keys = [repr(key) for key in shared]
    estimates = zip(accuracies(values, keys), differences(values, keys, 0), strict=True)
    return {
        name: Answers(own, less, *lengths(rows), len(shared), sum(len(r.responses) for r in rows))
        for (name, rows), (own, less) in zip(policies.items(), estimates, strict=True)
    }


def mean_rewards(rows: Rows) -> dict[object, float]:
    """By prompt, over its responses that have one."""
    known = {one.key: [reward for _, reward in one.known()] for one in rows}
    return {key: float(np.mean(found)) for key, found in known.items() if found}


def lengths(rows: Rows) -> tuple[float, float]:
    """Mean characters of a response, and the share that finished."""
    characters: Array = np.array([len(text) for one in rows for text in one.responses])
    ended = [end for one in rows for end in one.finished or (True,) * len(one.responses)]
    return float(characters.mean()), float(np.mean(ended))
