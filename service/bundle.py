"""A bundle: members with an objective and a weight each, scored together and summed.

Letters: N items, S of them scored, M objectives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from plaudit import objectives
from plaudit.checkpoint import CheckpointError
from plaudit.objectives import check_weights, raw_scales, scale_warning
from plaudit.wire import ItemResult
from service.member import Member
from service.problems import Failure, quote


@dataclass(frozen=True)
class Bundle:
    """``members`` and ``weights`` by objective, in one order."""

    name: str
    members: dict[str, Member]
    weights: dict[str, float]

    def __post_init__(self) -> None:
        bare = [name for name, m in self.members.items() if m.manifest.calibration.kind == "none"]
        if bare:
            raise CheckpointError(
                f"objectives {self.name}: {', '.join(bare)} not calibrated, so the weights would "
                "weigh scales; make full checkpoints of their models first"
            )

    @property
    def models(self) -> tuple[Member, ...]:
        return tuple(self.members.values())

    @property
    def revision(self) -> str:
        return objectives.revision(
            {name: member.revision for name, member in self.members.items()}, self.weights
        )

    def weighed(self, weights: Mapping[str, float]) -> "Bundle":
        """The bundle with the weights of a request, one for each objective."""
        if weights.keys() != self.weights.keys():
            named = [quote(name) for name in weights][: len(self.weights) + 1]
            raise Failure(
                "malformed",
                f"weights name {named}; {self.name} has {sorted(self.weights)}: name each of them, "
                "with 0 to leave one out",
            )
        try:
            check_weights(weights)
        except ValueError as error:
            raise Failure("malformed", str(error)) from None
        return replace(self, weights={name: weights[name] for name in self.weights})

    def scale_warning(self) -> str | None:
        scales = raw_scales({name: member.manifest for name, member in self.members.items()})
        return scale_warning(scales, self.weights)

    def result(
        self, summed: ItemResult, rewards: Sequence[float] | None, scores: Sequence[float] | None
    ) -> ItemResult:
        """An item's sum with what each objective gave to it, (M,)."""
        if rewards is None or scores is None:
            return summed
        return msgspec.structs.replace(
            summed,
            objectives=dict(zip(self.members, rewards, strict=True)),
            scores=dict(zip(self.members, scores, strict=True)),
        )
