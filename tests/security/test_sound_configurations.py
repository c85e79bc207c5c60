"""What a scan of configurations takes, since real models have it, and what is next to it."""

import json
from pathlib import Path
from typing import Any

import pytest
from poison import CONFIG, make

from plaudit.scan import configurations

CONFIG_FILE, TOKENS = "config.json", "special_tokens_map.json"


def found(directory: Path, file: str, content: Any) -> list[str]:
    make(directory)
    (directory / file).write_text(json.dumps(content))
    return [finding.what for finding in configurations.check(directory)]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (CONFIG_FILE, CONFIG | {"torch_dtype": "torch.bfloat16"}),
        (CONFIG_FILE, CONFIG | {"dtype": None, "quantization_config": None}),
        (CONFIG_FILE, CONFIG | {"dtype": {"text_config": "float16", "vision_config": None}}),
        (CONFIG_FILE, CONFIG | {"_attn_implementation": None, "attn_implementation": "sdpa"}),
        (CONFIG_FILE, CONFIG | {"attn_implementation": {"text_config": "eager", "other": None}}),
        (CONFIG_FILE, CONFIG | {"architectures": None}),
        (TOKENS, {"eos_token": "</s>", "pad_token": None, "additional_special_tokens": ["<x>"]}),
        (TOKENS, {"bos_token": {"content": "<s>", "lstrip": False}, "mask_token": {}}),
        ("tokenizer_config.json", {"special_tokens_map_file": "/old/place", "vocab_file": None}),
    ],
)
def test_it_is_taken(tmp_path: Path, file: str, content: Any) -> None:
    assert found(tmp_path / "model", file, content) == []


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        (CONFIG_FILE, CONFIG | {"architectures": "LlamaForSequenceClassification"},
         "architectures is 0"),
        (CONFIG_FILE, CONFIG | {"dtype": "float8"}, "the key .dtype is 'float8', no dtype"),
        (CONFIG_FILE, CONFIG | {"dtype": {"a": "float16", "b": "load"}}, "the key .dtype is {"),
        (TOKENS, ["</s>"], "it is no JSON object"),
        (TOKENS, {"eos_token": {"content": 5}}, "the key .eos_token is no special token"),
        (TOKENS, {"eos_token": ["</s>"]}, "the key .eos_token is no special token"),
        (TOKENS, {"chat_template": "</s>"}, "the key .chat_template is no special token"),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, file: str, content: Any, what: str) -> None:
    (refusal,) = found(tmp_path / "model", file, content)
    assert refusal.startswith(what)
