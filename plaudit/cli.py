"""``plaudit COMMAND``: each command lives in the package that owns it.

Commands are entry points of the group ``plaudit.commands``, so this floor imports none of them and
a missing extra ends in the line that installs it.
"""

import os
import signal
import sys
from collections.abc import Collection
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

# A top-level module that a command may lack, and the extra that brings it.
EXTRAS = {
    "fastapi": "service", "uvicorn": "service", "redis": "service",
    "prometheus_client": "service", "pydantic_settings": "service", "torch": "service",
    "transformers": "service", "accelerate": "training", "peft": "training",
    "datasets": "training", "matplotlib": "training", "scipy": "training", "sklearn": "training",
    "tensorboard": "training", "pydantic": "training", "yaml": "training",
    "statsmodels": "training", "numpy": "training", "jinja2": "training", "safetensors": "training",
    "trl": "training",
    "httptools": "service", "uvloop": "service", "hiredis": "service", "rich": "service",
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    try:
        status = obey(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:  # plaudit … | head: who reads has enough, and nobody is to hear of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    return status


def obey(arguments: list[str]) -> int:
    commands = {point.name: point for point in entry_points(group="plaudit.commands")}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(commands))
        return 0
    name, *rest = arguments
    if name not in commands:
        print(unknown(name, commands), file=sys.stderr)
        return 2
    return run(commands[name], rest)


def run(point: EntryPoint, arguments: list[str]) -> int:
    """Load and call a command; ValueErrors of ours are one sentence, not a traceback."""
    try:
        command = point.load()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        extra = point.module.partition(".")[0]
        print(
            f"plaudit {point.name} needs {missing}: pip install 'plaudit[{extra}]'",
            file=sys.stderr,
        )
        return 2
    try:
        status: int = command(arguments)
    except ValueError as error:
        if type(error).__module__.partition(".")[0] not in ("plaudit", "service", "training"):
            raise
        print(f"plaudit {point.name}: {error}", file=sys.stderr)
        return 2
    return status


def unknown(name: str, commands: Collection[str]) -> str:
    near = get_close_matches(name, commands, n=1)
    mends = f"did you mean plaudit {near[0]}?" if near else "plaudit --help lists them"
    return f"plaudit: no command {name!r}; {mends}"


def usage(commands: dict[str, EntryPoint]) -> str:
    names = "\n".join(f"  {name}" for name in sorted(commands))
    return f"usage: plaudit COMMAND …\n\ncommands:\n{names}\n\nplaudit COMMAND --help says more."


if __name__ == "__main__":
    sys.exit(main())
