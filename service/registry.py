"""What is loaded: members by name, ensembles and bundles of objectives over them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from msgspec import UNSET

from plaudit.ensemble import EnsembleFile
from plaudit.objectives import ObjectivesFile
from plaudit.wire import ModelInfo
from service.bundle import Bundle
from service.ensemble import Ensemble, together
from service.member import Engine, Member
from service.metrics import Metrics
from service.problems import Failure, quote
from service.settings import SettingsError
from service.sources import TOGETHER, Sources

T = TypeVar("T")
Loaded = Member | Bundle | Ensemble


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
