"""What is loaded: members by name, ensembles and bundles of objectives over them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml
from msgspec import UNSET

from plaudit import joint_file, strict_yaml
from plaudit.ensemble import EnsembleFile
from plaudit.objectives import ObjectivesFile
from plaudit.wire import ModelInfo
from service.bundle import Bundle
from service.ensemble import Ensemble, together
from service.member import Engine, Member
from service.metrics import Metrics
from service.problems import Failure, quote
from service.settings import Settings, SettingsError

T = TypeVar("T")
Loaded = Member | Bundle | Ensemble
# The name of what --ensemble makes, as of the file that plaudit ensemble writes.
TOGETHER = "ensemble"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of ``--config``: names to checkpoint directories, names to ensembles of them, names
    to bundles of objectives."""

    models: dict[str, str]
    ensembles: dict[str, EnsembleFile] = {}
    bundles: dict[str, ObjectivesFile] = {}


@dataclass
class Sources:
    """What the settings ask for, before anything is loaded."""

    models: dict[str, Path] = field(default_factory=dict)
    ensembles: dict[str, EnsembleFile] = field(default_factory=dict)
    bundles: dict[str, ObjectivesFile] = field(default_factory=dict)
    together: bool = False  # whether all models are one ensemble

    def add_model(self, name: str, path: Path) -> None:
        if self.models.setdefault(name, path).resolve() != path.resolve():
            raise SettingsError(
                f"two models are named {name!r}: {self.models[name]} and {path}; name them apart "
                "in a file for --config"
            )

    def add_ensemble(self, name: str, entry: EnsembleFile) -> None:
        if self.ensembles.setdefault(name, entry) != entry:
            raise SettingsError(f"two ensembles are named {name!r}; rename a file or an entry")

    def add_bundle(self, name: str, entry: ObjectivesFile) -> None:
        if self.bundles.setdefault(name, entry) != entry:
            raise SettingsError(f"two bundles are named {name!r}; rename a file or an entry")

    def add_file(self, path: Path) -> None:
        """An ensemble or a bundle, whose members are loaded under the last part of their path."""
        entry = joint_file.read(path)
        names = [Path(model).name for model in entry.models]
        directories = joint_file.directories(path, entry.models)
        for name, directory in zip(names, directories, strict=True):
            self.add_model(name, directory)
        if isinstance(entry, EnsembleFile):
            self.add_ensemble(path.stem, entry.with_models(names))
        else:
            self.add_bundle(path.stem, entry.with_models(names))

    def add_config(self, path: Path) -> None:
        config = read_config(path)
        for name, directory in config.models.items():
            self.add_model(name, path.parent / directory)
        for name, entry in config.ensembles.items():
            self.add_ensemble(name, entry)
        for name, bundle in config.bundles.items():
            self.add_bundle(name, bundle)

    def put_together(self) -> None:
        """All models as one ensemble. SettingsError where that is not what they could be."""
        if self.ensembles or self.bundles:
            named = ", ".join(sorted([*self.ensembles, *self.bundles]))
            raise SettingsError(
                f"--ensemble is of checkpoint directories, and {named} has its own file: "
                "leave out the file or --ensemble"
            )
        if len(self.models) < 2:
            raise SettingsError(
                "--ensemble is of several checkpoints: name another, or leave it out"
            )
        self.together = True


def sources(settings: Settings) -> Sources:
    """Models, ensembles and bundles named by the arguments and by ``--config``."""
    found = Sources()
    for path in settings.models:
        if path.is_dir():
            found.add_model(path.resolve().name, path)
        elif path.is_file():
            found.add_file(path)
        else:
            raise SettingsError(joint_file.nothing_at(path))
    if settings.ensemble:
        found.put_together()
    if settings.config is not None:
        found.add_config(settings.config)
    if not found.models:
        raise SettingsError(f"{settings.config} names no model: add one under models")
    both = sorted((found.models.keys() | found.ensembles.keys()) & found.bundles.keys())
    if both:  # a name in a request, or in GET /models, is one of them
        raise SettingsError(
            f"a bundle and a model or an ensemble are both named {both}; rename a file or an entry"
        )
    check_compat_model(settings.compat_model, found)
    return found


def check_compat_model(name: str | None, found: Sources) -> None:
    loaded = found.models.keys() | found.ensembles.keys() | found.bundles.keys()
    if found.together:
        loaded |= {TOGETHER}
    if name is not None and name not in loaded:
        raise SettingsError(f"--compat-model {name}: name one of {sorted(loaded)}")


def read_config(path: Path) -> Config:
    try:
        return msgspec.convert(strict_yaml.load(path.read_text()), Config)
    except (msgspec.ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file") from None


@dataclass(frozen=True)
class Served:
    """What the names in requests stand for, all at one time."""

    members: Mapping[str, Member]
    ensembles: Mapping[str, Ensemble]
    bundles: Mapping[str, Bundle]

    @classmethod
    def of(cls, members: Mapping[str, Member], wanted: Sources) -> "Served":
        """The joint ones over ``members``. Raises CheckpointError or SettingsError."""
        ensembles = {
            name: _ensemble(name, entry, members) for name, entry in wanted.ensembles.items()
        }
        if wanted.together:
            ensembles[TOGETHER] = together(TOGETHER, [*members.values()])
        bundles = {name: _bundle(name, entry, members) for name, entry in wanted.bundles.items()}
        return cls(members, ensembles, bundles)


def _ensemble(name: str, entry: EnsembleFile, members: Mapping[str, Member]) -> Ensemble:
    owner = f"ensemble {name}"
    own = _named(owner, entry.members, members)
    centre = None if entry.centre is None else _named(owner, [entry.centre], members)[0]
    return Ensemble(name, own, entry.aggregate, entry.coefficient, entry.fewest, centre)


def _bundle(name: str, entry: ObjectivesFile, members: Mapping[str, Member]) -> Bundle:
    own = _named(f"objectives {name}", entry.models, members)
    return Bundle(name, dict(zip(entry.objectives, own, strict=True)), entry.weights)


def _named(owner: str, names: Sequence[str], members: Mapping[str, Member]) -> tuple[Member, ...]:
    unknown = [name for name in names if name not in members]
    if unknown:
        raise SettingsError(f"{owner}: no model is named {unknown}; loaded: {sorted(members)}")
    return tuple(members[name] for name in names)


class Registry:
    """The loaded members, ensembles and bundles. Names in requests are looked up here and nowhere
    else; who has looked one up keeps what it was."""

    def __init__(self, engine: Engine, members: Mapping[str, Member], wanted: Sources):
        self.engine, self._wanted, self.directories = engine, wanted, wanted.models
        self._served = Served.of(members, wanted)

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
        for member in members.values():
            registry.announce(member, metrics)
        metrics.rewards.serve(registry.revisions())
        return registry

    @property
    def members(self) -> Mapping[str, Member]:
        return self._served.members

    @property
    def ensembles(self) -> Mapping[str, Ensemble]:
        return self._served.ensembles

    @property
    def bundles(self) -> Mapping[str, Bundle]:
        return self._served.bundles

    def with_members(self, new: Sequence[Member]) -> Served:
        """What would be served with ``new`` in the place of those of their names; CheckpointError
        or SettingsError where an ensemble or a bundle could not have them."""
        served = Served.of({**self.members, **{one.name: one for one in new}}, self._wanted)
        for name, ensemble in self.ensembles.items():
            ensemble.check_successor(served.ensembles[name])
        return served

    def serve(self, served: Served) -> None:
        """From now on look-ups find ``served``, and none finds a part of what was before."""
        self._served = served

    def announce(self, member: Member, metrics: Metrics) -> None:
        """Begin to follow the scores of a member and of the ensembles that have it."""
        metrics.rewards.watch(member.name, member.revision, member.manifest.stats)
        metrics.saturation.model_info.labels(*self.info_labels(member)).set(1)
        for name, ensemble in self.ensembles.items():
            if member in ensemble.models:
                metrics.rewards.watch_ensemble(name, [one.name for one in ensemble.members])

    def info_labels(self, member: Member) -> tuple[str, str, str, str]:
        """Of plaudit_model_info."""
        return member.name, member.revision, self.engine.dtype, self.engine.name

    def model(self, name: str | None) -> Member | Bundle:
        """The named member or bundle; without a name, the only one. Failure "unknown-model", which
        names ensembles too: who asks here may want one."""
        loaded: dict[str, Member | Bundle] = {**self.members, **self.bundles}
        ensembles = sorted(self.ensembles)
        besides = f"; POST /ensemble_score asks the ensembles {ensembles}" if ensembles else ""
        return _pick(loaded, name, "model", besides)

    def ensemble(self, name: str | None) -> Ensemble:
        return _pick(self.ensembles, name, "ensemble")

    def named(self, name: str) -> Loaded:
        """The model, bundle or ensemble of that name, a model before an ensemble. Failure
        "unknown-model"."""
        loaded: dict[str, Loaded] = {**self.ensembles, **self.members, **self.bundles}
        return _pick(loaded, name, "model")

    def has(self, name: str) -> bool:
        return any(name in loaded for loaded in (self.members, self.ensembles, self.bundles))

    def wholes(self) -> list[str]:
        """Names of what is loaded for itself, not only as a part of an ensemble or a bundle."""
        joint: list[Bundle | Ensemble] = [*self.ensembles.values(), *self.bundles.values()]
        parts = {model.name for one in joint for model in one.models}
        return [name for name in self.members if name not in parts] + [one.name for one in joint]

    def revisions(self) -> set[tuple[str, str]]:
        """Every name with its revision."""
        return {(info.name, info.revision) for info in self.infos()}

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
                min(model.manifest.max_tokens for model in joint.models),
                self.engine.dtype, [member.name for member in joint.members],
                centre=UNSET if joint.centre is None else joint.centre.name,
                min_members=joint.min_members,
            )  # fmt: skip
        for bundle in self.bundles.values():
            members = bundle.members.values()
            yield ModelInfo(
                bundle.name, "objectives", bundle.revision,
                min(member.manifest.max_tokens for member in members),
                self.engine.dtype, [member.name for member in members], bundle.weights,
            )  # fmt: skip


def _pick(loaded: Mapping[str, T], name: str | None, what: str, besides: str = "") -> T:
    if name is None:
        if len(loaded) == 1:
            return next(iter(loaded.values()))
        raise Failure(
            "unknown-model",
            f"{len(loaded)} {what}s are loaded; name one of {sorted(loaded)}{besides}",
        )
    if name not in loaded:
        loads = f"loaded: {sorted(loaded)}{besides}"
        raise Failure("unknown-model", f"no {what} {quote(name)!r}; {loads}")
    return loaded[name]
