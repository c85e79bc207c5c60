"""``plaudit COMMAND``: each command lives in the package that owns it.

Commands are entry points of the group ``plaudit.commands``, so this floor imports none of them and
a missing extra ends in the line that installs it.
"""

import os
import select
import signal
import sys
from collections.abc import Collection
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

# Top-level modules that extras bring; which one is missing is told by the command's own package.
OF_EXTRAS = frozenset({
    "accelerate", "datasets", "fastapi", "hiredis", "httptools", "jinja2", "matplotlib", "numpy",
    "peft", "prometheus_client", "pydantic", "pydantic_settings", "redis", "rich", "safetensors",
    "scipy", "sklearn", "statsmodels", "tensorboard", "torch", "transformers", "trl", "uvicorn",
    "uvloop", "yaml",
})  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    try:
        try:
            return command(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not has_no_reader(sys.stdout.fileno()):  # a connection of the command's own
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to come
        return 128 + signal.SIGPIPE


def has_no_reader(pipe: int) -> bool:
    """Whether the reader has left, as ``head`` does when it has read enough."""
    poll = select.poll()
    poll.register(pipe, 0)
    return any(found & select.POLLERR for _, found in poll.poll(0))


def command(arguments: list[str]) -> int:
    """The exit status of the command that they begin with."""
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
        entry = point.load()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in OF_EXTRAS:
            raise
        extra = point.module.partition(".")[0]
        print(
            f"plaudit {point.name} needs {missing}: pip install 'plaudit[{extra}]'",
            file=sys.stderr,
        )
        return 2
    try:
        status: int = entry(arguments)
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
