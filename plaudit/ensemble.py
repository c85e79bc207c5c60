"""An ensemble: a YAML file naming members, how their rewards become one, and a coefficient."""

from pathlib import Path
from typing import Annotated

import msgspec
import yaml

from plaudit.aggregate import DEFAULT_COEFFICIENT
from plaudit.wire import Aggregate

FILE = "ensemble.yaml"


class EnsembleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``members`` are checkpoint directories, relative to the file."""

    members: Annotated[list[str], msgspec.Meta(min_length=1)]
    aggregate: Aggregate = "mean"
    coefficient: Annotated[float, msgspec.Meta(ge=0)] = DEFAULT_COEFFICIENT


def write(path: Path, ensemble: EnsembleFile) -> None:
    path.write_text(yaml.safe_dump(msgspec.to_builtins(ensemble), sort_keys=False))
