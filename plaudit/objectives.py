"""Several objectives: a YAML file naming a checkpoint and a weight for each, and their sum.

``r = sum_j w_j (r_j - m_j) / s_j``: every member is normalised by its own statistics first, because
raw scales of reward models differ, and a weight of a raw score would mean the scale as well.

Letters: N items, M objectives.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from plaudit.checkpoint import Manifest, sha256
from plaudit.wire import MAX_WEIGHT

Array = np.ndarray[Any, np.dtype[np.float64]]
# Raw scales further apart than this are worth a sentence.
SCALE_RATIO = 1.5


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``member`` is a checkpoint directory, relative to the file."""

    member: str
    weight: float


class ObjectivesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Objectives by name, in the order in which they are summed."""

    objectives: Annotated[
        dict[Annotated[str, msgspec.Meta(min_length=1)], Objective], msgspec.Meta(min_length=1)
    ]

    def __post_init__(self) -> None:
        check_weights(self.weights)

    @property
    def weights(self) -> dict[str, float]:
        return {name: objective.weight for name, objective in self.objectives.items()}

    @property
    def models(self) -> list[str]:
        """Everything that scores: a member for each objective."""
        return [objective.member for objective in self.objectives.values()]

    def with_models(self, models: Sequence[str]) -> "ObjectivesFile":
        """Other names of the same ``models``, in order."""
        named = zip(self.weights.items(), models, strict=True)
        return ObjectivesFile({name: Objective(member, w) for (name, w), member in named})


def check_weights(weights: Mapping[str, float]) -> None:
    """ValueError for weights that make no sum of rewards."""
    odd = {name: weight for name, weight in weights.items() if not 0 <= weight <= MAX_WEIGHT}
    if odd:
        raise ValueError(f"weights are numbers from 0 to {MAX_WEIGHT:g}, not {odd}")
    if not any(weights.values()):
        raise ValueError("every weight is 0, and so would every reward be; raise one of them")


def revision(revisions: Mapping[str, str], weights: Mapping[str, float]) -> str:
    """Of names, members' revisions and weights by objective: another weight is another reward."""
    parts = [part for name in weights for part in (name, revisions[name], weights[name].hex())]
    return sha256(*(part.encode() for part in parts))


def weighted_sum(rewards: Array, weights: Sequence[float]) -> Array:
    """Sums (N,) of normalised rewards (N, M). Row by row, not a matrix product, whose last bits
    depend on N."""
    found: Array = (rewards * np.array(weights, np.float64)).sum(axis=1)
    return found


def raw_scales(members: Mapping[str, Manifest]) -> dict[str, float]:
    """Std of the raw scores of each objective's member; empty if one of them does not say."""
    stds = {name: manifest.stats.std for name, manifest in members.items() if manifest.stats}
    return stds if len(stds) == len(members) and min(stds.values()) > 0 else {}


def scale_warning(scales: Mapping[str, float], weights: Mapping[str, float]) -> str | None:
    """What a sum of raw scores would weigh, where the objectives' raw scales (std) differ by more
    than SCALE_RATIO."""
    if not scales or max(scales.values()) <= SCALE_RATIO * min(scales.values()):
        return None
    stds = ", ".join(f"{name} {std:.3g}" for name, std in scales.items())
    raw = {name: weights[name] * std for name, std in scales.items()}
    return (
        f"raw scales (std) differ by more than {SCALE_RATIO}x: {stds}. Each objective is "
        f"normalised by its own statistics, so that the weights hold ({shares(weights)}); an "
        f"unnormalised sum would weigh {shares(raw)}"
    )


def shares(weights: Mapping[str, float]) -> str:
    total = sum(weights.values())
    return ", ".join(f"{name} {weight / total:.0%}" for name, weight in weights.items())
