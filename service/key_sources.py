"""Where keys are written: in settings, and in files."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from service.key_entry import Entry, Grant, KeysError, read

# Of entries that name no scope, by the setting that they stand in.
OF_API: tuple[Grant, ...] = ("score", "metrics")
OF_ADMIN: tuple[Grant, ...] = ("admin", "metrics")
READABLE_FOR_ALL = 0o004
# From which ``plaudit swap`` has its key: no setting of the server, whose shell may have it too.
OF_SWAP_COMMAND = "PLAUDIT_ADMIN_KEY"


def of_setting(text: str | None, file: Path | None, flag: str) -> list[Entry]:
    """Entries of ``--api-keys`` or ``--admin-keys``, with commas between them, and of its file."""
    grants = OF_ADMIN if flag == "--admin-keys" else OF_API
    unnamed = "admin-key" if flag == "--admin-keys" else "key"
    found = read((text or "").split(","), f"{flag} entry", grants, unnamed)
    if file is not None:
        found += of_file(file, grants, unnamed, len(found))
    return found


def of_file(
    file: Path, grants: Iterable[Grant] = OF_API, unnamed: str = "key", before: int = 0
) -> list[Entry]:
    """Entries of a file. KeysError if it is not there, cannot be read or has none."""
    found = in_file(file, grants, unnamed, before)
    if not found:
        raise KeysError(f"{file} has no key: plaudit keys new NAME --file {file}")
    return found


def in_file(
    file: Path, grants: Iterable[Grant] = OF_API, unnamed: str = "key", before: int = 0
) -> list[Entry]:
    """The same of a file that may have none yet."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise KeysError(f"no file {file}: correct the path") from None
    except OSError as error:
        raise KeysError(f"{file}: {error.strerror}; let the server's user read it") from None
    except UnicodeDecodeError:
        raise KeysError(f"{file} is no text in UTF-8; name a file of keys, one a line") from None
    return read(lines, f"{file} line", grants, unnamed, before)


def warnings_of(files: Iterable[Path], entries: Iterable[Entry]) -> Iterator[str]:
    """What an operator should know of keys that are accepted all the same."""
    for file in files:
        if file.stat().st_mode & READABLE_FOR_ALL:
            yield f"{file} can be read by every user of this machine: chmod 600 {file}"
    for one in entries:
        if one.is_over():
            yield f"{one.place}: the time of this key of {one.client} is over; take it out"
