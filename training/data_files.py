"""The files that a run reads its data from: it goes on with the same contents alone.

Of hub datasets the name counts; their revision is not looked at.
"""

import hashlib
import shlex
from collections.abc import Iterable
from pathlib import Path

import msgspec

from plaudit.whole_file import write_whole
from training.data.jsonlines import DataError
from training.settings import EnsemblePlan, SettingsError, TrainSettings
from training.shared_files import alone

FILE = "data.json"


def record(directory: Path, config: TrainSettings, begun: bool) -> None:
    """Write ``DIRECTORY/data.json``, digests by what is read, unless a run is ``begun`` that has
    left it. SettingsError where that run read something else, or other contents."""
    path, found = directory / FILE, digests(config)
    with alone(path):
        if not begun or not path.exists():
            if begun and any(config.out.glob("**/checkpoint-*")):
                print(f"{path} is missing: it is not known what {config.out} began with; it goes "
                      "on with the data as they are", flush=True)  # fmt: skip
            write_whole(path, msgspec.json.format(msgspec.json.encode(found), indent=1))
            return
    refuse_others(config, found, msgspec.json.decode(path.read_bytes(), type=dict[str, str]))


def refuse_others(config: TrainSettings, found: dict[str, str], recorded: dict[str, str]) -> None:
    """By name, so that a directory may have been moved."""
    paths = files(config)
    changed = [
        f"{name}{f' ({paths[name]})' if name in paths else ''} is {found.get(name, 'not given')}, "
        f"was {recorded.get(name, 'not given')}"
        for name in sorted(found.keys() | recorded.keys())
        if found.get(name) != recorded.get(name)
    ]
    if changed:
        raise SettingsError(
            f"{config.out}: begun with other data: {'; '.join(changed)}. {remedy(config)}"
        )


def remedy(config: TrainSettings) -> str:
    """Complete members are never to be removed by a command that is copied from here."""
    if isinstance(config, EnsemblePlan):
        return "Restore what it was, or choose another out=DIR"
    anew = f"rm -r {shlex.quote(str(config.out))}"
    return f"Restore what it was, choose another out=DIR, or begin anew: {anew}"


def digests(config: TrainSettings) -> dict[str, str]:
    """Sha256 of the contents, as ``sha256sum`` gives it, by what a setting calls the file; of a hub
    dataset its name. DataError for a file that is not there."""
    read = files(config)
    require(read.values())
    hubs = {f"sources.{one.name}": one.hub for one in config.sources if one.hub is not None}
    return {name: digest(path) for name, path in read.items()} | hubs


def files(config: TrainSettings) -> dict[str, Path]:
    """By the setting that names them. A template or head that is missing is refused by name where
    it is read."""
    found = {f"sources.{one.name}": one.path for one in config.sources if one.path is not None}
    if config.meta is not None:
        found["meta"] = config.meta.path
    beside = {"chat_template": config.chat_template, "head": config.head}
    return found | {name: path for name, path in beside.items() if path and path.is_file()}


def require(paths: Iterable[Path]) -> None:
    """DataError where one is no file."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no file of this name")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
