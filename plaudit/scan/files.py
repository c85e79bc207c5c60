"""What lies in a model directory: where links lead, and files that are programs."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from plaudit.scan.finding import Finding, note, refused

# More is no model; a walk through a whole disk would never end.
MAX_FILES = 20_000
# Formats whose readers run code of the file: pickles and what holds them, Keras' lambdas.
PROGRAMS = {
    ".bin", ".ckpt", ".h5", ".hdf5", ".joblib", ".keras", ".msgpack", ".npy", ".npz", ".pickle",
    ".pkl", ".pt", ".pth",
}  # fmt: skip
SOURCES = {".py", ".pyc", ".pyd", ".so"}


def listed(directory: Path) -> tuple[list[Path], list[Finding]]:
    """All files below a directory, and those that are no plain files in it."""
    root, found, plain = directory.resolve(), [], []
    for count, path in enumerate(walk(root)):
        if count == MAX_FILES:
            found.append(refused(".", f"over {MAX_FILES} files", "name the directory of one model"))
            break
        finding = check_place(path, root)
        plain.append(path)
        found += [finding] if finding else []
    return plain, found


def walk(root: Path) -> Iterator[Path]:
    """Files, and links to directories; links are not followed."""
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        yield from (here / name for name in names)
        yield from (here / name for name in folders if (here / name).is_symlink())


def check_place(path: Path, root: Path) -> Finding | None:
    name = str(path.relative_to(root))
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return refused(name, "a link to nothing", "remove it, or restore what it names")
    if not any(target.is_relative_to(home) for home in homes(root)):
        return refused(name, "a link that leaves the directory", "put the file itself in its place")
    mode = target.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return refused(name, "no plain file", "remove it: reading it may never end")
    return None


def homes(root: Path) -> list[Path]:
    """Where links may lead: the directory, and the store beside it of a snapshot in the cache of
    huggingface-hub, whose files are all links."""
    in_cache = root.parent.name == "snapshots" and root.parents[1].name.startswith("models--")
    return [root, root.parents[1] / "blobs"] if in_cache else [root]


def programs(paths: list[Path], directory: Path) -> list[Finding]:
    """Notes of files that are programs; none of them is ever opened."""
    found = []
    for path in paths:
        name = str(path.relative_to(directory.resolve()))
        if path.suffix.lower() in PROGRAMS:
            found.append(
                note(name, "a format that can run code: never opened", "remove it where you can")
            )
        elif path.suffix.lower() in SOURCES:
            found.append(note(name, "a program: never imported", "remove it where you can"))
    return found
