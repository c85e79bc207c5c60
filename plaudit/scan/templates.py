"""Chat templates: programs of the checkpoint, bounded before they are run for anybody.

Each is parsed, then rendered for a few conversations in a process of its own, which has a limit of
memory, of CPU time and of output. A template that misbehaves only for words that none of these
conversations has is not found so. It stays in the sandbox then, but not within its time.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from plaudit.checkpoint import template_files
from plaudit.scan import confined, render, special_tokens
from plaudit.scan.finding import Finding, note, refused

OF_TOKENIZERS = ("tokenizer_config.json", "processor_config.json", "chat_template.json")
MAX_BYTES = 200_000
REMEDY = "restore the template of the model's authors, or write one without it"


def check(directory: Path) -> list[Finding]:
    tokens = special_tokens.of(directory)
    return [
        finding
        for name, template in found_in(directory)
        if (finding := judge(name, template, tokens)) is not None
    ]


def found_in(directory: Path) -> list[tuple[str, Any]]:
    """Templates by the name of their file."""
    found: list[tuple[str, Any]] = [
        (str(path.relative_to(directory)), beginning(path)) for path in template_files(directory)
    ]
    for name in OF_TOKENIZERS:
        found += [(name, one) for one in inside(directory / name)]
    return found


def beginning(path: Path) -> str | None:
    """A template, or as much of it as shows that it is too large; None if it is no text."""
    with path.open("rb") as file:
        read = file.read(MAX_BYTES + 1)
    try:
        return read.decode()
    except UnicodeDecodeError as error:  # the last character may be cut
        return read[: error.start].decode() if len(read) > MAX_BYTES else None


def inside(path: Path) -> list[Any]:
    """Templates in a JSON file: one, several by name, or several with their names."""
    if not path.is_file():
        return []
    content = json.loads(path.read_bytes())
    value = content.get("chat_template") if isinstance(content, dict) else None
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list):
        return [one.get("template") if isinstance(one, dict) else one for one in value]
    return [] if value is None else [value]


def judge(name: str, template: Any, tokens: dict[str, str]) -> Finding | None:
    if not is_text(template):
        return refused(name, "chat_template is no text, or no Unicode", REMEDY)
    if len(template.encode()) > MAX_BYTES:
        return refused(name, f"the template has over {MAX_BYTES} bytes", REMEDY)
    verdict = rendered(json.dumps([template, tokens]))
    if verdict == "":
        return None
    if verdict == render.DATED:
        return note(name, verdict, "scores would change from day to day; see its probes")
    return refused(name, f"the template {verdict}", REMEDY)


def is_text(template: Any) -> bool:
    """Whether it is a string of whole characters: JSON can write halves of them, surrogates."""
    if not isinstance(template, str):
        return False
    return not any("\ud800" <= character <= "\udfff" for character in template)


@cache  # members of an ensemble have one
def rendered(asked: str) -> str:
    """What is wrong with a template, by a process that has nothing but it; empty if nothing is."""
    return confined.run(render.__file__, asked, render.CPU_SECONDS, render.MEMORY)
