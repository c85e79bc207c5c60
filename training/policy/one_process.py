"""Commands that several processes would not share, but each do for itself."""

import os

from training.settings import SettingsError


def require(command: str) -> None:
    """SettingsError in one of several processes, as accelerate and torchrun start them."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise SettingsError(
            f"{command} runs in one process, and this is one of {count}: start it without "
            "accelerate or torchrun"
        )
