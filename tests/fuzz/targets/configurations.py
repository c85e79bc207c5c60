"""config.json and other JSON of a model directory, as the scan reads them.

The oracle for keys is a walk of its own through whatever the standard reader makes of the file.
"""

import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from plaudit.scan import configurations, explain, sizes, special_tokens, templates, weights
from tests.fuzz.targets.choosing import choosing, chosen
from tests.fuzz.targets.place import folder
from tests.fuzz.targets.saying import sayable
from tests.tiny.poison import CONFIG, make

FILES = (
    "config.json", "tokenizer_config.json", "special_tokens_map.json",
    "model.safetensors.index.json",
)  # fmt: skip
NEVER = ("auto_map", "custom_code", "trust_remote_code", "_attn_implementation_internal",
         "configuration_files", "tokenizer_file", "transformers_weights")  # fmt: skip
SEEDS: tuple[dict[str, Any], ...] = (
    CONFIG,
    CONFIG | {"auto_map": {"AutoModel": "evil.Model"}},
    CONFIG | {"text_config": {"quantizer": [{}, {"trust_remote_code": True}]}},
    CONFIG | {"attn_implementation": "evil/kernel", "vocab_file": "../vocab.json"},
    CONFIG | {"hidden_size": 2, "num_hidden_layers": 1.5, "num_attention_heads": [1, 2]},
    CONFIG | {"hidden_size": 10**400, "num_hidden_layers": 1.5, "num_key_value_heads": 10**400},
    CONFIG | {"quantization_config": {}, "dtype": {"text_config": "bfloat16"}},
    {"eos_token": {"content": "</s>"}, "additional_special_tokens": ["a"]},
    {"chat_template": [{"name": "default", "template": "{{ x }}"}], "pad_token": None},
    {"weight_map": {"score.weight": "model.safetensors"}},
)


def seeds() -> list[bytes]:
    return [choosing(name, FILES, json.dumps(one).encode()) for one in SEEDS for name in FILES]


def one(data: bytes) -> None:
    """Refused in lines that may be printed, or with no forbidden key; and then its sizes, tokens
    and templates can be read."""
    name, content = chosen(data, FILES)
    directory = of_one(name)
    (directory / name).write_bytes(content)
    found = configurations.check(directory) + weights.check(directory)
    if not found:
        assert not set(NEVER) & set(keys(json.loads(content)))
        found = sizes.check(directory)
        assert all(isinstance(token, str) for token in special_tokens.of(directory).values())
        templates.found_in(directory)
    for finding in found:
        sayable(explain(Path("model"), finding))


@cache
def of_one(name: str) -> Path:
    """A sound directory in which one file is written again and again."""
    place = folder("configurations") / name
    shutil.rmtree(place, ignore_errors=True)
    return make(place)


def keys(value: Any) -> Iterator[str]:
    """The keys at any depth with a value that means something: a path is a text."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            yield from (k for k, v in one.items() if not k.endswith("_file") or isinstance(v, str))
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)
