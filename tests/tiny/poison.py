"""A sound model directory, and ways to poison one. No weights that anybody would want.

Whatever runs code of a directory makes ``SUNG`` beside it.
"""

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUNG = "the-canary-sang"
# Reached through classes, as template injections do.
ESCAPE = (
    "{{ ''.__class__.__mro__[1].__subclasses__()[0].__init__.__globals__['os'].mkdir('"
    + SUNG
    + "')"
    " }}"
)
TENSORS = {"score.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}
CONFIG = {
    "architectures": ["LlamaForSequenceClassification"],
    "model_type": "llama",
    "num_labels": 1,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
}
# Each byte a token, with nothing around it.
TOKENIZER: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True,
    },
    "post_processor": None, "decoder": None,
    "model": {
        "type": "BPE", "vocab": {chr(code): code - 33 for code in range(33, 127)}, "merges": [],
    },
}  # fmt: skip
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% generation %}{{ m.content | trim }}"
    "{% endgeneration %}{% if not loop.last %}\n{% endif %}{% endfor %}"
)


class Canary:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def pickled(directory: Path) -> bytes:
    return pickle.dumps(Canary(directory.parent / SUNG))


def program(directory: Path) -> str:
    return f"import os\nos.mkdir({str(directory.parent / SUNG)!r})\n"


def safetensors(tensors: Any, data: bytes = bytes(8), length: int | None = None) -> bytes:
    header = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def make(directory: Path) -> Path:
    """A directory with nothing wrong in it."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    (directory / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (directory / "tokenizer_config.json").write_text("{}")
    (directory / "chat_template.jinja").write_text(CHATML)
    (directory / "model.safetensors").write_bytes(safetensors(TENSORS))
    return directory


Poison = Callable[[Path], object]


@dataclass(frozen=True)
class Attack:
    """``what`` is said of ``file``."""

    poison: Poison
    file: str
    what: str
    severity: str = "refused"


def write(name: str, content: Callable[[Path], bytes | str] | bytes | str) -> Poison:
    def poison(directory: Path) -> None:
        made = content(directory) if callable(content) else content
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(made.encode() if isinstance(made, str) else made)

    return poison


def add(name: str, **keys: Any) -> Poison:
    """More keys in a JSON file."""

    def poison(directory: Path) -> None:
        path = directory / name
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | keys))

    return poison


def only(name: str) -> Poison:
    """A pickle in the place of safetensors."""

    def poison(directory: Path) -> None:
        (directory / "model.safetensors").unlink()
        (directory / name).write_bytes(pickled(directory))

    return poison


def link(name: str, target: str) -> Poison:
    return lambda directory: (directory / name).symlink_to(target)


def both(*poisons: Poison) -> Poison:
    return lambda directory: [poison(directory) for poison in poisons]
