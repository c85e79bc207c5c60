"""Where each served model came from, since when, and whether it computes: ``GET /admin/models``."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from msgspec import Struct

from plaudit.wire import ModelInfo
from service.canary import Canary
from service.registry import Registry


class Listed(Struct, frozen=True):
    """``checkpoint`` is a path below the model root: None of what came from elsewhere, and of
    ensembles and bundles, which are as young and as well as their youngest and worst model.
    ``silent``: nothing of it was computed for too long."""

    name: str
    kind: str
    revision: str
    checkpoint: str | None
    since: str
    state: Literal["serving", "silent"]
    members: list[str]


class ListedModels(Struct, frozen=True):
    models: list[Listed]


class Origins:
    """Of models by name, from the directories that were loaded at the start."""

    def __init__(self, directories: Mapping[str, Path], root: Path):
        start = now()
        self._found = {name: (below(path, root), start) for name, path in directories.items()}

    def replaced(self, name: str, checkpoint: str) -> None:
        self._found[name] = checkpoint, now()

    def listed(self, registry: Registry, canary: Canary) -> Iterator[Listed]:
        for info in registry.infos():
            parts = parts_of(info)
            checkpoint = self._found[info.name][0] if info.name in registry.members else None
            since = max(self._found[part][1] for part in parts)
            sings = registry.engine.ready and all(canary.sings(part) for part in parts)
            yield Listed(
                info.name, info.kind, info.revision, checkpoint, since,
                "serving" if sings else "silent", info.members,
            )  # fmt: skip


def parts_of(info: ModelInfo) -> list[str]:
    """The models of which it is made: itself, or its members and its centre."""
    centre = [info.centre] if isinstance(info.centre, str) else []
    return [*info.members, *centre] or [info.name]


def below(path: Path, root: Path) -> str | None:
    place, top = path.resolve(), root.resolve()
    return str(place.relative_to(top)) if place.is_relative_to(top) else None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
