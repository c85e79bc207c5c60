"""Where the figures of a training go, and whether what takes them is installed."""

from importlib.util import find_spec
from typing import Literal

from pydantic import BaseModel

Logger = Literal["tensorboard", "wandb"]
# The extra of plaudit that brings each.
EXTRAS: dict[Logger, str] = {"tensorboard": "training", "wandb": "wandb"}


class LoggerError(ValueError):
    """A training that would log to what is not installed; the text ends with what mends it."""


def require(config: BaseModel) -> None:
    """LoggerError unless all that ``config`` and the settings in it log to is installed.

    Asked of a run that begins, and not of settings that are read: a checkpoint is evaluated where
    the loggers of its training are not.
    """
    for name, value in config:
        if isinstance(value, BaseModel):
            require(value)
        elif name == "log_to":
            for logger in value:
                require_logger(logger)


def require_logger(logger: Logger) -> None:
    if not is_installed(logger):
        raise LoggerError(
            f"log_to: {logger} is not installed; leave it out, or "
            f"pip install 'plaudit[{EXTRAS[logger]}]'"
        )


def is_installed(package: str) -> bool:
    found = find_spec(package)
    # wandb leaves a folder of its own name where it ran, which Python takes for an empty package.
    return found is not None and found.origin is not None
