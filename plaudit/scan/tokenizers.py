"""tokenizer.json: a program of regular expressions and replacements, tried before it is used.

Texts for which it misbehaves only in service are not found so; one that panics is an error of its
item there.
"""

from pathlib import Path

from plaudit.checkpoint import file_digest
from plaudit.scan import confined, encode
from plaudit.scan.finding import Finding, refused

FILE = "tokenizer.json"
VERDICTS: dict[str, str] = {}  # by digest: members of an ensemble have one tokenizer
REMEDY = "restore the tokenizer of the model's authors"


def check(directory: Path) -> list[Finding]:
    path = directory / FILE
    if not path.is_file():
        return []
    digest = file_digest(path)
    if digest not in VERDICTS:
        asked = str(path.resolve())
        VERDICTS[digest] = confined.run(encode.__file__, asked, encode.CPU_SECONDS, encode.MEMORY)
    verdict = VERDICTS[digest]
    return [refused(FILE, f"the tokenizer {verdict}", REMEDY)] if verdict else []
