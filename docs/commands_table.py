"""Prints docs/commands.md, what every command says to --help: python docs/commands_table.py"""

import contextlib
import io
import os
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

COLUMNS = 100
HEAD = """# Commands

What `plaudit COMMAND --help` says, for each command. Those of the service need
`plaudit[service]`, those of training `plaudit[training]`. [tools.md](tools.md) shows `doctor`,
`top`, `cache` and `bench` at work.

<!-- With Python 3.11: python docs/commands_table.py > docs/commands.md -->
"""
# Commands that have commands of their own.
OWN = {"cache": ("stats", "purge"), "keys": ("new", "check")}
GROUPS = {"service": "Service", "training": "Training"}


def render() -> str:
    """The whole page: the packages in order, their commands by name."""
    # The environment is that of a user who has set nothing.
    for name in [name for name in os.environ if name.startswith("PLAUDIT_")]:
        del os.environ[name]
    os.environ["COLUMNS"] = str(COLUMNS)
    parts = [HEAD]
    for package, title in GROUPS.items():
        points = [one for one in commands() if one.module.partition(".")[0] == package]
        parts.append(f"## {title}\n\n" + " · ".join(link(one.name) for one in points) + "\n")
        parts += [section(one) for one in points]
    return "\n".join(parts)


def commands() -> list[EntryPoint]:
    """By name; those whose package is there."""
    points = entry_points(group="plaudit.commands")
    return sorted((one for one in points if is_there(one.module)), key=lambda one: one.name)


def is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def link(name: str) -> str:
    return f"[{name}](#plaudit-{name})"


def section(point: EntryPoint) -> str:
    texts = [help_of(point, before) for before in ([], *([own] for own in OWN.get(point.name, ())))]
    blocks = "\n".join(f"```text\n{text}\n```\n" for text in texts)
    return f"### plaudit {point.name}\n\n{blocks}"


def help_of(point: EntryPoint, before: list[str]) -> str:
    """What a command, or one of its own commands, prints; it ends by SystemExit then."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        point.load()([*before, "--help"])
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


if __name__ == "__main__":
    print(render(), end="")
