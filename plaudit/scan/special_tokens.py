"""The special tokens that a tokenizer's files name: templates see them as variables."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES = ("special_tokens_map.json", "tokenizer_config.json")


def of(directory: Path) -> dict[str, str]:
    """Tokens by name, such as ``eos_token``."""
    return dict(pair for name in FILES for pair in in_file(directory / name))


def in_file(path: Path) -> Iterator[tuple[str, str]]:
    content = json.loads(path.read_bytes()) if path.is_file() else {}
    if not isinstance(content, dict):
        return
    # Tokens of one model, by name; in a list they have none.
    own = [content.get(key) for key in ("extra_special_tokens", "model_specific_special_tokens")]
    named = [pair for one in own if isinstance(one, dict) for pair in one.items()]
    for name, value in [*content.items(), *named]:
        token = text_of(value)
        if token is not None and (name.endswith("_token") or (name, value) in named):
            yield name, token


def text_of(value: Any) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None
