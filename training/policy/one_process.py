"""Commands that several processes would not share, but each do for itself."""

import os

from transformers.utils import strtobool

from training.settings import SettingsError


def count() -> int:
    """Of the processes of this launch, as accelerate and torchrun say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require(command: str) -> None:
    """SettingsError in one of several processes, as accelerate and torchrun start them, and where
    accelerate would cut the model in parts."""
    for name in ("FSDP", "DEEPSPEED"):
        if strtobool(os.environ.get(f"ACCELERATE_USE_{name}", "false")):
            raise SettingsError(
                f"{command} keeps the model whole in one process, and accelerate was told to cut "
                f"it in parts ({name}): start it without accelerate"
            )
    if count() > 1:
        raise SettingsError(
            f"{command} runs in one process, and this is one of {count()}: start it without "
            "accelerate or torchrun"
        )
