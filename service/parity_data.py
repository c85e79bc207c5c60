"""What ``plaudit parity`` reads from ``--data``: prompts, each with responses to compare."""

import gzip
from pathlib import Path

import msgspec

from plaudit.checkpoint import Message


class ParityError(ValueError):
    """Data that cannot be scored; the text says where and what mends it."""


class Text(msgspec.Struct):
    """A response with something beside it, as in AlpacaEval."""

    text: str


class DataRow(msgspec.Struct):
    """A line of ``--data``. Other fields are left alone, also those that say which response is
    better: the order to keep is that of the reference."""

    prompt: list[Message]
    chosen: str | None = None
    rejected: str | None = None
    responses: list[str | Text] = []

    def __post_init__(self) -> None:
        if len(self.texts()) < 2:
            raise ValueError("needs chosen and rejected, or two responses or more")

    def texts(self) -> list[str]:
        """Chosen and rejected where they are given, else the responses."""
        both = [one for one in (self.chosen, self.rejected) if one is not None]
        return both or [one if isinstance(one, str) else one.text for one in self.responses]


def read(path: Path, count: int) -> list[DataRow]:
    """The first lines of a file."""
    if not path.is_file():
        raise ParityError(f"{path}: no such file")
    rows: list[DataRow] = []
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if len(rows) == count:
                break
            try:
                rows.append(msgspec.json.decode(line, type=DataRow))
            except msgspec.MsgspecError as error:
                raise ParityError(f"{path}:{number}: {error}") from None
    return rows
