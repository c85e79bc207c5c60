"""The files that a run reads its data from: it goes on with the same contents alone.

Hub datasets are no files; their revision is not looked at.
"""

import hashlib
from pathlib import Path

import msgspec

from plaudit.whole_file import write_whole
from training.data.jsonlines import DataError
from training.settings import SettingsError, TrainSettings

FILE = "data.json"


def record(directory: Path, config: TrainSettings, begun: bool) -> None:
    """Write ``DIRECTORY/data.json``, digests by path, unless a run is ``begun`` that has left it.
    SettingsError where a file of that run has other contents now."""
    path, found = directory / FILE, digests(config)
    if not begun or not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.format(msgspec.json.encode(found), indent=1))
        return
    recorded = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    changed = [name for name in found.keys() & recorded.keys() if found[name] != recorded[name]]
    if changed:
        said = "; ".join(f"{name} is {found[name]}, was {recorded[name]}" for name in changed)
        raise SettingsError(
            f"{config.out}: begun with other data: {said}. Restore the contents, choose another "
            f"out=DIR, or begin anew: rm -r {config.out}"
        )


def digests(config: TrainSettings) -> dict[str, str]:
    """Sha256 of the contents, as ``sha256sum`` gives it. DataError for a file that is not there."""
    files = [source.path for source in config.sources if source.path is not None]
    if config.meta is not None:
        files.append(config.meta.path)
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no file of this name")
    return {str(path): digest(path) for path in files}


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
