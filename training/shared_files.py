"""Files that one process makes at a time, of one machine or, on a shared volume, of several.

Such a volume must know POSIX file locks, as NFSv4 and CephFS do.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.settings import SettingsError


def make_directory(path: Path) -> None:
    """And what is above it. SettingsError where a file stands in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise SettingsError(
            f"{path}: no directory can be made, a file of this name, or above it, is in the way; "
            "choose another out, or move the file"
        ) from None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of ``path``, a file or directory that one process makes at a time; others wait.

    The system gives the lock back when its holder ends, however it ends.
    """
    make_directory(path.parent)
    with path.with_name(f".{path.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path}: another process is making it, waiting for that one", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
