"""Fenced blocks of the pages that users read: what is promised to run, and what is answered."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "k8s/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """The text between two fences; ``before`` is the block above it, if nothing is between."""

    page: str
    line: int
    language: str
    text: str
    before: "Block | None" = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page)]


def blocks_of(page: Path) -> Iterator[Block]:
    text, last, end = page.read_text(), None, -1
    for found in FENCE.finditer(text):
        above = last if not text[end : found.start()].strip() else None
        indent = len(found[1])
        inside = "".join(line[indent:] for line in found[3].splitlines(keepends=True))
        last = Block(
            str(page.relative_to(ROOT)),
            text.count("\n", 0, found.start()) + 2,
            found[2],
            inside,
            above,
        )
        end = found.end()
        yield last


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a shell block: lines joined, comments and pipes parted."""
    lexer = shlex.shlex(block.text.replace("\\\n", " "), posix=True, punctuation_chars=";&|\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    found: list[list[str]] = [[]]
    comment = False
    for word in lexer:
        if set(word) <= set(";&|\n"):
            comment = comment and "\n" not in word
            found.append([])
        elif comment or word.startswith("#"):
            comment = True
        else:
            found[-1].append(word)
    return [words for words in found if words]


def without_ellipses(text: str) -> Any:
    """JSON as it is shown, whose "…" stand for more."""
    text = re.sub(r',\s*"…": "…"', "", text)
    return json.loads(re.sub(r",?\s*(?<![\w\"… ])…(?=\s*[\]},])|, …(?=\s*[\]},])", "", text))
