"""An ensemble: a YAML file naming members, how their rewards become one, and a coefficient."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import yaml

from plaudit.aggregate import CENTRED, DEFAULT_COEFFICIENT, refused_centre
from plaudit.checkpoint import sha256
from plaudit.whole_file import write_whole
from plaudit.wire import Aggregate

FILE = "ensemble.yaml"


class EnsembleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``members`` and ``centre`` are checkpoint directories, relative to the file.

    ``min_members`` (default: all) must score an item for it to have a reward. A ``centre``, such as
    the members' average, gives the reward from which their disagreement is subtracted.
    """

    members: Annotated[list[str], msgspec.Meta(min_length=1)]
    aggregate: Aggregate = "mean"
    coefficient: Annotated[float, msgspec.Meta(ge=0)] = DEFAULT_COEFFICIENT
    min_members: int | None = None
    centre: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.fewest <= len(self.members):
            raise ValueError(
                f"min_members is {self.min_members}, of {len(self.members)} members; "
                f"it is 1 to {len(self.members)}"
            )
        if self.centre is not None and self.aggregate not in CENTRED:
            raise ValueError(refused_centre(self.aggregate))

    @property
    def fewest(self) -> int:
        return len(self.members) if self.min_members is None else self.min_members

    @property
    def models(self) -> list[str]:
        """Everything that scores: the members, then the centre if there is one."""
        return self.members if self.centre is None else [*self.members, self.centre]

    def with_models(self, models: Sequence[str]) -> "EnsembleFile":
        """Other names of the same ``models``, in order."""
        members = [*models][: len(self.members)]
        centre = None if self.centre is None else models[-1]
        return msgspec.structs.replace(self, members=members, centre=centre)


def revision(members: Sequence[str], centre: str | None) -> str:
    """Of the members' revisions and the centre's, if there is one."""
    named = [] if centre is None else ["centre", centre]
    return sha256(*(part.encode() for part in [*members, *named]))


def write(path: Path, ensemble: EnsembleFile) -> None:
    declared = {k: v for k, v in msgspec.to_builtins(ensemble).items() if v is not None}
    write_whole(path, yaml.safe_dump(declared, sort_keys=False).encode())
