"""Responses that nobody has compared: one JSON object a line, ``prompt`` and ``responses``."""

from dataclasses import dataclass, field
from pathlib import Path

from plaudit.checkpoint import Message
from training.data.jsonlines import DataError, Row
from training.data.shapes import first_user_turn, responses_of
from training.data.sources import Source, fitting, rows_of_file, said_of


@dataclass(frozen=True, slots=True)
class Candidates:
    """Distinct responses to one prompt."""

    prompt: tuple[Message, ...]
    responses: tuple[str, ...]

    @property
    def first_turn(self) -> str:
        return first_user_turn(self.prompt)


@dataclass
class Unlabelled:
    """The prompts of a file, the digest of its bytes, and what did not fit with its line."""

    path: Path
    digest: str
    prompts: list[Candidates] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)

    def report(self) -> str:
        """One line for a log, never a row's text."""
        count = sum(len(one.responses) for one in self.prompts)
        said = said_of(self.refused)
        return f"{self.path}: {len(self.prompts)} prompts, {count} unlabelled responses{said}"


def load(path: Path) -> Unlabelled:
    """Read every row; what does not fit is kept with its line and reason."""
    digest, rows = rows_of_file(Source(name="meta", path=path))
    found = Unlabelled(path, digest)

    def read(row: Row, number: int) -> Candidates:
        return Candidates(*responses_of(row))

    found.prompts = [one for _, one in fitting(rows, read, found.refused)]
    if not found.prompts:
        raise DataError(f"{found.report()}: no row holds a prompt and a list of responses")
    return found
