"""What is loaded: members by name, ensembles over them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from plaudit import ensemble
from plaudit.checkpoint import CheckpointError, sha256
from plaudit.ensemble import EnsembleFile
from plaudit.wire import Aggregate, ModelInfo
from service.member import Engine, Member
from service.metrics import Metrics
from service.problems import Failure, quote
from service.settings import Settings, SettingsError

T = TypeVar("T")


@dataclass(frozen=True)
class Ensemble:
    """Members scored together and how their rewards become one."""

    name: str
    members: tuple[Member, ...]
    aggregate: Aggregate
    coefficient: float

    @property
    def revision(self) -> str:
        return sha256(*(member.revision.encode() for member in self.members))


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of ``--config``: names to checkpoint directories, names to ensembles of them."""

    models: dict[str, str]
    ensembles: dict[str, EnsembleFile] = {}


@dataclass
class Sources:
    """What the settings ask for, before anything is loaded."""

    models: dict[str, Path] = field(default_factory=dict)
    ensembles: dict[str, EnsembleFile] = field(default_factory=dict)

    def add_model(self, name: str, path: Path) -> None:
        if self.models.setdefault(name, path).resolve() != path.resolve():
            raise SettingsError(
                f"two models are named {name!r}: {self.models[name]} and {path}; name them apart "
                "in a file for --config"
            )

    def add_ensemble(self, name: str, entry: EnsembleFile) -> None:
        if self.ensembles.setdefault(name, entry) != entry:
            raise SettingsError(f"two ensembles are named {name!r}; rename a file or an entry")


def sources(settings: Settings) -> Sources:
    """Models and ensembles named by the arguments and by ``--config``."""
    found = Sources()
    for path in settings.models:
        if path.is_dir():
            found.add_model(path.resolve().name, path)
        elif path.is_file():
            entry = ensemble.read(path)
            for member in entry.members:
                found.add_model(Path(member).name, path.parent / member)
            names = [Path(member).name for member in entry.members]
            found.add_ensemble(path.stem, msgspec.structs.replace(entry, members=names))
        else:
            raise SettingsError(f"{path}: neither a checkpoint directory nor an ensemble file")
    if settings.config is not None:
        config = read_config(settings.config)
        for name, directory in config.models.items():
            found.add_model(name, settings.config.parent / directory)
        for name, entry in config.ensembles.items():
            found.add_ensemble(name, entry)
    if not found.models:
        raise SettingsError(f"{settings.config} names no model: add one under models")
    return found


def read_config(path: Path) -> Config:
    try:
        return msgspec.convert(yaml.safe_load(path.read_text()), Config)
    except (msgspec.ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file") from None


class Registry:
    """The loaded members and ensembles. Names in requests are looked up here and nowhere else."""

    def __init__(self, engine: Engine, members: Mapping[str, Member], wanted: Sources):
        self.engine, self.members = engine, members
        self.ensembles = {
            name: self._ensemble(name, entry) for name, entry in wanted.ensembles.items()
        }

    @classmethod
    async def open(cls, engine: Engine, wanted: Sources, metrics: Metrics) -> "Registry":
        """Load and verify everything that is wanted, or close the engine and raise CheckpointError
        or SettingsError."""
        try:
            members = await engine.open(wanted.models)
            registry = cls(engine, members, wanted)
        except BaseException:
            await engine.close()  # an engine's processes must not outlive a refused start
            raise
        for name, member in members.items():
            metrics.model_info.labels(name, member.revision, engine.dtype, engine.name).set(1)
        return registry

    def _ensemble(self, name: str, entry: EnsembleFile) -> Ensemble:
        unknown = [member for member in entry.members if member not in self.members]
        if unknown or not entry.members:
            raise SettingsError(f"ensemble {name}: unknown or no members {unknown}")
        members = tuple(self.members[member] for member in entry.members)
        bare = [m.name for m in members if m.manifest.calibration.kind == "none"]
        if bare and len(members) > 1:
            raise CheckpointError(
                f"ensemble {name}: {bare} not calibrated, so the variance would measure scales; "
                "make full checkpoints of them first"
            )
        return Ensemble(name, members, entry.aggregate, entry.coefficient)

    def member(self, name: str | None) -> Member:
        """The named member; without a name, the only one. Failure "unknown-model"."""
        return _pick(self.members, name, "model")

    def ensemble(self, name: str | None) -> Ensemble:
        return _pick(self.ensembles, name, "ensemble")

    def infos(self) -> Iterator[ModelInfo]:
        for member in self.members.values():
            manifest = member.manifest
            yield ModelInfo(
                member.name, manifest.kind, member.revision, manifest.max_tokens,
                self.engine.dtype, [],
            )  # fmt: skip
        for joint in self.ensembles.values():
            yield ModelInfo(
                joint.name, "ensemble", joint.revision,
                min(member.manifest.max_tokens for member in joint.members),
                self.engine.dtype, [member.name for member in joint.members],
            )  # fmt: skip


def _pick(loaded: Mapping[str, T], name: str | None, what: str) -> T:
    if name is None:
        if len(loaded) == 1:
            return next(iter(loaded.values()))
        raise Failure(
            "unknown-model", f"{len(loaded)} {what}s are loaded; name one of {sorted(loaded)}"
        )
    if name not in loaded:
        raise Failure("unknown-model", f"no {what} {quote(name)!r}; loaded: {sorted(loaded)}")
    return loaded[name]
