"""The JSON files of a model directory: no key in them may name code, or another file to read.

Transformers reads some of these keys without asking, ``trust_remote_code`` or not: CVE-2026-4372.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plaudit.checkpoint import INDEX_FILE
from plaudit.scan.finding import Finding, refused
from plaudit.scan.known_classes import known_names

MAX_BYTES = 10_000_000
# Read by other means: by the tokenizers library, by msgspec, by ``weights``.
ELSEWHERE = {"tokenizer.json", "vocab.json", "reward.json", INDEX_FILE}
# Whatever they hold, and wherever they stand.
FORBIDDEN = {
    "auto_map": "names code to fetch and run",
    "custom_code": "names code to fetch and run",
    "custom_pipelines": "names code to fetch and run",
    "trust_remote_code": "asks for foreign code to be run",
    "_attn_implementation_internal": "can name a kernel to fetch and run",
    "_experts_implementation_internal": "can name a kernel to fetch and run",
    "configuration_files": "has another file read in the place of config.json",
    "fast_tokenizer_files": "has another file read in the place of tokenizer.json",
    "transformers_weights": "has another file of weights read",
}
# Keys such as tokenizer_file and vocab_file: paths, which Transformers opens where the directory
# has no such file. The one that is excepted is written by old versions and never opened.
FILE = re.compile(r"(?!special_tokens_map_file$).+_file")
# Everything in it becomes an argument of the tokenizer: a template, a path.
TOKENS = "special_tokens_map.json"
TOKEN = re.compile(r"\w+_token|(additional|extra)_special_tokens")
DTYPES = {"float64", "float32", "float16", "bfloat16", "auto"}
UNQUANTISED = (
    "choose the model that it was made of, or where you trust it: "
    "AutoModelForSequenceClassification.from_pretrained(DIR).dequantize().save_pretrained(NEW)"
)
# A name of one that Transformers brings, where another would be fetched.
IMPLEMENTATION = re.compile(r"_?(attn|experts)_implementation")
OWN_IMPLEMENTATION = re.compile(r"[a-z0-9_]+")
REMOVE = "take the key out if you know what it is for, or choose a model without it"


def check(directory: Path) -> list[Finding]:
    """Findings of all JSON files that lie directly in a directory."""
    paths = [p for p in sorted(directory.glob("*.json")) if p.name not in ELSEWHERE]
    found = [finding for path in paths for finding in check_file(path)]
    if not (directory / "config.json").is_file():
        found.append(refused("config.json", "it is missing", "name the directory of a model"))
    if (directory / "adapter_config.json").exists():
        found.append(
            refused(
                "adapter_config.json", "an adapter, which names another model to load",
                "merge it first: PeftModel.merge_and_unload().save_pretrained(NEW)",
            )
        )  # fmt: skip
    return found


def check_file(path: Path) -> list[Finding]:
    if path.stat().st_size > MAX_BYTES:
        return [refused(path.name, f"over {MAX_BYTES} bytes", "no configuration has so many")]
    try:
        content = json.loads(path.read_bytes().decode())
        found = list(forbidden(path.name, content))
    except (ValueError, RecursionError) as error:
        return [refused(path.name, f"it is no JSON ({type(error).__name__})", "fetch it again")]
    if path.name == "config.json":
        found += unknown(content)
    if path.name == TOKENS:
        found += no_tokens(content)
    return found


def no_tokens(content: Any) -> list[Finding]:
    """What a map of special tokens has besides tokens."""
    if not isinstance(content, dict):
        return [refused(TOKENS, "it is no JSON object", "fetch it again")]
    return [
        refused(TOKENS, f"the key .{key:.80} is no special token", REMOVE)
        for key, value in content.items()
        if not TOKEN.fullmatch(key) or (key.endswith("_token") and not is_token(value))
    ]


def is_token(value: Any) -> bool:
    content = value.get("content") if isinstance(value, dict) else value
    return content is None or isinstance(content, str)


def forbidden(file: str, value: Any, place: str = "") -> Iterator[Finding]:
    """Findings in a value that stands at ``place``, such as ``.text_config``."""
    if isinstance(value, list):
        for position, one in enumerate(value):
            yield from forbidden(file, one, f"{place}[{position}]")
    if not isinstance(value, dict):
        return
    for key, one in value.items():
        if key in FORBIDDEN:
            yield refused(file, f"the key {place}.{key} {FORBIDDEN[key]}", REMOVE)
        elif IMPLEMENTATION.fullmatch(key) and not is_own(one):
            yield refused(file, f"the key {place}.{key} names a kernel to fetch and run", REMOVE)
        elif FILE.fullmatch(key) and isinstance(one, str):
            yield refused(file, f"the key {place}.{key:.80} names another file to read", REMOVE)
        elif key == "quantization_config" and one is not None:
            what = f"the key {place}.{key} asks for quantised weights, which are not served"
            yield refused(file, f"{what}, and can have a kernel fetched", UNQUANTISED)
        elif key in ("dtype", "torch_dtype") and not is_dtype(one):
            what = f"the key {place}.{key} is {one!r:.80}, no dtype of weights"
            yield refused(file, what, f"name one of {', '.join(sorted(DTYPES))}")
        else:
            yield from forbidden(file, one, f"{place}.{key:.80}")


def is_dtype(value: Any) -> bool:
    """Whether it is one of weights, or one for each of several parts. Transformers takes whatever
    torch has by that name."""
    if isinstance(value, dict):
        return all(is_dtype(one) for one in value.values())
    return value is None or (isinstance(value, str) and value.removeprefix("torch.") in DTYPES)


def is_own(value: Any) -> bool:
    """Whether an implementation, or each of several by part, is one of Transformers' own."""
    if isinstance(value, dict):
        return all(is_own(one) for one in value.values())
    return value is None or (
        isinstance(value, str) and OWN_IMPLEMENTATION.fullmatch(value) is not None
    )


def unknown(config: Any) -> list[Finding]:
    """What a ``config.json`` names that the installed Transformers does not have."""
    if not isinstance(config, dict):
        return [refused("config.json", "it is no JSON object", "fetch it again")]
    named = [("model_type", config.get("model_type"))]
    classes = config.get("architectures") or []
    named += [("architectures", one) for one in (classes if isinstance(classes, list) else [0])]
    return [
        refused(
            "config.json",
            f"{key} is {one!r:.80}, which the installed Transformers does not have",
            "choose a model of Transformers' own classes, or a newer Transformers",
        )
        for key, one in named
        if not isinstance(one, str) or one not in known_names()
    ]
