"""tokenizer.json: a program of regular expressions and replacements, tried before it is used.

Texts for which it misbehaves only in service are not found so; one that panics is an error of its
item there.
"""

from functools import cache
from pathlib import Path

from plaudit.checkpoint import file_digest
from plaudit.scan import confined, encode
from plaudit.scan.finding import Finding, refused

FILE = "tokenizer.json"
REMEDY = "restore the tokenizer of the model's authors"


def check(directory: Path) -> list[Finding]:
    path = directory / FILE
    if not path.is_file():
        return []
    verdict = tried(path, file_digest(path))
    return [refused(FILE, f"the tokenizer {verdict}", REMEDY)] if verdict else []


@cache  # members of an ensemble have one
def tried(path: Path, _digest: str) -> str:
    return confined.run(encode.__file__, str(path.resolve()), encode.CPU_SECONDS, encode.MEMORY)
