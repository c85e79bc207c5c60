"""Whether scores depend on what is scored beside them, tried on the machine."""

from collections.abc import Iterator

import numpy as np

from plaudit.checkpoint import CheckpointError
from plaudit.joint_model import Asked, JointModel
from plaudit.reward_model import Scores

# Long enough for several pieces of every kind, short enough for a start.
LONGEST = 300


def verify(joint: JointModel) -> None:
    """Score made-up sequences alone and in company; CheckpointError if a bit of a score differs."""
    members = range(len(joint.members))
    longest = min(LONGEST, *(model.manifest.max_tokens for model in joint.members))
    sequences = made_up(joint.members[0].classifier.config.vocab_size, longest)
    asked = [Asked(member, ids) for ids in sequences for member in members]
    alone = np.concatenate([joint.compute([one], remember=False).scores for one in asked])
    for found in in_company(joint, asked):
        if (found != alone).any():
            raise CheckpointError(
                f"a score changes by {np.abs(found - alone).max():.3g} with its neighbours: here "
                "--deterministic cannot be kept; leave it out"
            )


def in_company(joint: JointModel, asked: list[Asked]) -> Iterator[Scores]:
    """All members and sequences together; then with their prefixes remembered, at first from no
    forward, then from the one before."""
    yield joint.compute(asked, remember=False).scores
    yield joint.compute(asked).scores
    yield joint.compute(asked).scores


def made_up(vocabulary: int, longest: int) -> list[list[int]]:
    """Sequences that leave a common beginning at several places, up to the longest."""
    common = [7 * i % vocabulary for i in range(longest)]
    places = (0, 20, 150, longest - 1)
    ends = (1, 90, 40, 1)
    return [
        [*common[:place], *(11 * i % vocabulary for i in range(end))][:longest]
        for place, end in zip(places, ends, strict=True)
    ]
