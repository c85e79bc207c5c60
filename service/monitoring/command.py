"""``plaudit dashboard``: hands out the dashboards, alert rules and configuration of the package."""

import argparse
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from service.monitoring.preview import add_preview

# What an operator takes; the rest of the folder is how it is made.
SUFFIXES = (".json", ".yml", ".yaml")


class NotEmpty(ValueError):
    """Files are already there, and would be written over."""


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    run: int = arguments.run(arguments)
    return run


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="plaudit dashboard", allow_abbrev=False, description=__doc__
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    add_write(commands)
    add_preview(commands)
    return made


def add_write(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "copy dashboards, alert rules and configuration into a folder"
    made = commands.add_parser("write", allow_abbrev=False, help=text, description=text)
    made.add_argument("directory", type=Path, help="made if it is missing")
    made.add_argument("--force", action="store_true", help="write over files that are there")
    made.set_defaults(run=lambda arguments: write(arguments.directory, arguments.force))


def write(directory: Path, force: bool) -> int:
    """Every file of ours under ``directory``; NotEmpty rather than one written over by chance."""
    files = {directory / path: text for path, text in shipped()}
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise NotEmpty(
            f"{', '.join(there[:3])}{' …' if there[3:] else ''} would be written over: "
            "name an empty folder, or add --force"
        )
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


def shipped() -> list[tuple[Path, str]]:
    return sorted(found(resources.files("service.monitoring"), Path()))


def found(folder: Traversable, at: Path) -> list[tuple[Path, str]]:
    """The files of a folder of the package and those below it."""
    here: list[tuple[Path, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            here += found(entry, at / entry.name)
        elif entry.name.endswith(SUFFIXES):
            here.append((at / entry.name, entry.read_text(encoding="utf-8")))
    return here
