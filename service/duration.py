"""Spans of time as people write them."""

import re

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class DurationError(ValueError):
    """A text that is no span of time; it says how one is written."""


def seconds_of(text: str) -> int:
    """Seconds of ``90s``, ``30m``, ``12h`` or ``7d``. Raises DurationError."""
    fits = re.fullmatch(r"([1-9]\d*)([smhd])", text)
    if not fits:
        raise DurationError(f"{text!r} is no time: write 90s, 30m, 12h or 7d")
    return int(fits[1]) * UNITS[fits[2]]
