"""An ensemble as it is served: which members score together, and what they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plaudit import ensemble
from plaudit.aggregate import CENTRED, DEFAULT_COEFFICIENT, needed, refused_centre
from plaudit.checkpoint import CheckpointError
from plaudit.wire import Aggregate
from service.member import Member
from service.problems import Failure
from service.settings import SettingsError


@dataclass(frozen=True)
class Ensemble:
    """Members scored together and how their rewards become one, around a ``centre`` if it has one.

    At least ``min_members`` must score an item.
    """

    name: str
    members: tuple[Member, ...]
    aggregate: Aggregate
    coefficient: float
    min_members: int
    centre: Member | None = None

    def __post_init__(self) -> None:
        bare = [m.name for m in self.models if m.manifest.calibration.kind == "none"]
        if bare and len(self.models) > 1:
            raise CheckpointError(
                f"ensemble {self.name}: {bare} not calibrated, so the variance would measure "
                "scales; make full checkpoints of them first"
            )

    @property
    def models(self) -> tuple[Member, ...]:
        """Everything that scores: the members, then the centre."""
        return self.members if self.centre is None else (*self.members, self.centre)

    @property
    def revision(self) -> str:
        centre = None if self.centre is None else self.centre.revision
        return ensemble.revision([member.revision for member in self.members], centre)

    @property
    def centred_on_average(self) -> bool:
        """Whether the centre is the average (WARM) of exactly the members, by their revisions."""
        averaged = set() if self.centre is None else parts_of(self.centre)
        return bool(averaged) and averaged == {member.revision for member in self.members}

    def check_successor(self, other: "Ensemble") -> None:
        """SettingsError unless ``other`` has the same roles, and a centre that is as true."""
        if [one.name for one in other.models] != [one.name for one in self.models]:
            raise SettingsError(f"ensemble {self.name}: its centre would be another model, or none")
        if self.centred_on_average and not other.centred_on_average:
            assert self.centre is not None
            raise SettingsError(
                f"ensemble {self.name}: {self.centre.name} is the average of exactly its members, "
                "and would be no more: swap the members and their new average in one request"
            )

    @property
    def needed(self) -> int:
        """How many members must score an item for its reward."""
        return needed(self.aggregate, len(self.members), self.min_members)

    def asked(self, aggregate: Aggregate | None, coefficient: float | None) -> "Ensemble":
        """The ensemble with the aggregate and the coefficient of a request, where it has them."""
        kind = aggregate or self.aggregate
        if self.centre is not None and kind not in CENTRED:
            raise Failure("malformed", f"{self.name}: {refused_centre(kind)}")
        weight = self.coefficient if coefficient is None else coefficient
        return replace(self, aggregate=kind, coefficient=weight)


def together(name: str, models: Sequence[Member]) -> Ensemble:
    """All of ``models`` as one ensemble, around the average of the others if one of them is it."""
    centre = centre_among(models)
    members = tuple(model for model in models if model is not centre)
    return Ensemble(name, members, "mean", DEFAULT_COEFFICIENT, len(members), centre)


def centre_among(models: Sequence[Member]) -> Member | None:
    """The average (WARM) of exactly the others, by their revisions.

    SettingsError for an average of some of the others only: as one more member it would count those
    twice, and as the centre it would not be theirs.
    """
    loaded = {model.revision: model for model in models}
    averaged = {model.name: parts_of(model) for model in models}
    for model in models:
        others = loaded.keys() - {model.revision}
        if others and averaged[model.name] == others:
            return model
    for model in models:
        if parts := averaged[model.name] & loaded.keys():
            raise SettingsError(
                f"--ensemble: {model.name} averages {sorted(loaded[part].name for part in parts)}, "
                f"{len(parts)} of its {len(averaged[model.name])} members, beside which it is "
                "neither one more member nor the centre of all: name exactly its members with it, "
                "leave it out, or write an ensemble file with its centre"
            )
    return None


def parts_of(model: Member) -> set[str]:
    """The revisions that an average is of."""
    return {part.digest for part in model.manifest.members}
