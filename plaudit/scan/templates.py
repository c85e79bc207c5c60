"""Chat templates: programs of the checkpoint, bounded before they are run for anybody.

Each is parsed, then rendered for a few conversations in a process of its own, which has a limit of
memory, of CPU time and of output. A template that misbehaves only for words that none of these
conversations has is not found so. It stays in the sandbox then, but not within its time.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from plaudit.checkpoint import template_files
from plaudit.scan import render
from plaudit.scan.finding import Finding, note, refused

OF_TOKENIZERS = ("tokenizer_config.json", "processor_config.json", "chat_template.json")
MAX_BYTES = 200_000
# On a busy machine a process may wait long for its CPU time.
PATIENCE_SECONDS = 60.0
REMEDY = "restore the template of the model's authors, or write one without it"


def check(directory: Path) -> list[Finding]:
    return [
        finding
        for name, template in found_in(directory)
        for finding in ([judge(name, template)] if isinstance(template, str) else [odd(name)])
        if finding is not None
    ]


def found_in(directory: Path) -> list[tuple[str, Any]]:
    """Templates by the name of their file."""
    found: list[tuple[str, Any]] = [
        (str(path.relative_to(directory)), beginning(path)) for path in template_files(directory)
    ]
    for name in OF_TOKENIZERS:
        found += [(name, one) for one in inside(directory / name)]
    return found


def beginning(path: Path) -> str:
    """A template, or as much of it as shows that it is too large."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1).decode(errors="replace")


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


def odd(name: str) -> Finding:
    return refused(name, "chat_template is no text", REMEDY)


def judge(name: str, template: str) -> Finding | None:
    if len(template.encode(errors="replace")) > MAX_BYTES:
        return refused(name, f"the template has over {MAX_BYTES} bytes", REMEDY)
    verdict = rendered(template)
    if verdict == "":
        return None
    if verdict == render.DATED:
        return note(name, verdict, "scores would change from day to day; see its probes")
    return refused(name, f"the template {verdict}", REMEDY)


@cache  # members of an ensemble have one
def rendered(template: str) -> str:
    """What is wrong with a template, by a process that has nothing but it; empty if nothing is."""
    program = [sys.executable, "-I", render.__file__]
    text = template.encode(errors="replace")
    try:
        done = subprocess.run(
            program, input=text, capture_output=True, timeout=PATIENCE_SECONDS, check=False, env={}
        )
    except subprocess.TimeoutExpired:
        return f"is not done in {PATIENCE_SECONDS:g} seconds"
    if done.returncode == 0:
        return done.stdout.decode()
    return f"is not done with {render.CPU_SECONDS} s of CPU time and {render.MEMORY >> 20} MB"
