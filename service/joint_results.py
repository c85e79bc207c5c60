"""What the outcomes of several models on the items of a request come to.

Letters: N items of a request, S of them with a reward, M models.
"""

import math
from collections.abc import Sequence

import numpy as np

from plaudit.wire import ItemError, ItemResult, Usage
from service.items import Seen
from service.member import Member
from service.member_scores import Outcome, Scored
from service.places import Array

# Of scores that are finite: by their calibration, or by what is made of several.
OUT_OF_RANGE = ItemError("non-finite", "the reward is beyond the range of numbers")


def raw_scores(outcomes: Sequence[Sequence[Outcome]]) -> Array:
    """Raw scores (N, M) of what each model made of the items; NaN in the place of an error."""
    rows = [
        [outcome.score if isinstance(outcome, Scored) else np.nan for outcome in row]
        for row in outcomes
    ]
    return np.array(rows, np.float64).T


def calibrate(
    raw: Array, models: Sequence[Member], seen: Sequence[Sequence[Seen | ItemError]]
) -> Array:
    """Raw scores (N, M) to rewards (N, M), each model's by its own calibration; NaN stays NaN."""
    found = np.empty_like(raw)
    lengths = [characters(ones) for ones in zip(*seen, strict=True)]
    for j, model in enumerate(models):
        reward = model.manifest.calibration.reward
        found[:, j] = [
            score if math.isnan(score) else reward(score, length)
            for score, length in zip(raw[:, j].tolist(), lengths, strict=True)
        ]
    return found


def characters(ones: Sequence[Seen | ItemError]) -> int | None:
    """The length of an item's response, from any model that could read the item."""
    return next((one.characters for one in ones if isinstance(one, Seen)), None)


def joint_results(
    seen: Sequence[Sequence[Seen | ItemError]],
    outcomes: Sequence[Sequence[Outcome]],
    rewards: Sequence[float | None],
) -> list[ItemResult]:
    """The items of an answer; ``rewards`` (N,) are null where a model has an error, or
    where they are out of range."""
    columns = zip(zip(*seen, strict=True), zip(*outcomes, strict=True), rewards, strict=True)
    return [joint_result(*column) for column in columns]


def joint_result(
    ones: Sequence[Seen | ItemError], row: Sequence[Outcome], reward: float | None
) -> ItemResult:
    """One item: the first error if there is no reward; else tokens of the first model that scored,
    and the largest cut of any."""
    if reward is None:
        errors = (one for one in row if isinstance(one, ItemError))
        return ItemResult(error=next(errors, OUT_OF_RANGE))
    both = zip(ones, row, strict=True)
    read = [one for one, got in both if isinstance(one, Seen) and isinstance(got, Scored)]
    return ItemResult(
        reward=reward,
        tokens=read[0].tokens,
        truncated=max(one.truncated for one in read),
        cached=all(one.cached for one in row if isinstance(one, Scored)),
    )


def usage(
    seen: Sequence[Sequence[Seen | ItemError]],
    outcomes: Sequence[Sequence[Outcome]],
    results: Sequence[ItemResult],
) -> Usage:
    """Tokens over M models, identical items of a request computed once; and how many of the N
    results were in the cache whole."""
    tokens = 0
    computed: dict[bytes, int] = {}
    for row, scored in zip(seen, outcomes, strict=True):
        for one, outcome in zip(row, scored, strict=True):
            if isinstance(one, ItemError):
                continue
            tokens += one.tokens
            if not (isinstance(outcome, Scored) and outcome.cached):
                computed[one.key] = one.tokens
    cached = sum(result.cached is True for result in results)
    return Usage(tokens, sum(computed.values()), cached)
