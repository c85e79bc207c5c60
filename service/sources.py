"""What is to be served, as the arguments and ``--config`` name it, before anything is loaded."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import yaml

from plaudit import joint_file, strict_yaml
from plaudit.ensemble import EnsembleFile
from plaudit.objectives import ObjectivesFile
from service.settings import Settings, SettingsError

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
            self._refuse_twice(f"{path}: ensembles: {name}", entry)
            self.add_ensemble(name, entry)
        for name, bundle in config.bundles.items():
            self.add_bundle(name, bundle)

    def _refuse_twice(self, where: str, entry: EnsembleFile) -> None:
        """Among those that are known; that one is not is said when the ensemble is made."""
        named = [name for name in entry.members if name in self.models]
        joint_file.refuse_twice(where, self.models, named)

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
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror}; name a YAML file that may be read"
        ) from None
