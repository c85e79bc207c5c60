"""Conversations as datasets and trainers hold them, for a service that takes role and content."""

from collections.abc import Mapping, Sequence
from typing import Any

# What a policy thought before its answer. The answer is judged.
THOUGHTS = ("reasoning_content", "thinking")


def prompt_in(
    row: Mapping[str, Any] | None, key: str | None, missing: str
) -> str | list[dict[str, Any]]:
    """What is ``said`` under ``key`` of a dataset's row; with nothing there ValueError(missing)."""
    prompt = (row or {}).get(str(key))
    if prompt is None:
        raise ValueError(missing)
    return said(prompt)


def said(turns: str | Sequence[Mapping[str, Any]]) -> str | list[dict[str, Any]]:
    """A plain text as it is; messages without thoughts, and without the None that a table has
    where one message lacks what another has. What else has no place, such as tool calls, stays,
    for the client to refuse it by its name."""
    if isinstance(turns, str):
        return turns
    return [
        {key: value for key, value in turn.items() if value is not None and key not in THOUGHTS}
        for turn in turns
    ]
