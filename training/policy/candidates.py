"""Files of candidates: several responses to one prompt, with what is known of each.

One JSON object a line: ``prompt`` (turns) and ``responses`` (texts), as of unlabelled responses,
and beside each response, where it is known, its ``sources``, whether it ``finished`` by itself, and
its ``rewards``, null where the service gave none, by the ``revision`` that scored the row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plaudit.checkpoint import Message
from training.data.columns import Columns, RowError, items, number, text, texts
from training.data.jsonlines import DataError, Row, write_rows
from training.data.shapes import first_user_turn, prompt_of
from training.data.sources import Source, fitting, rows_of_file, said_of

# A whole prompt, hashable.
Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Responses to one prompt; what stands beside them has their length, or is not known (None)."""

    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    sources: tuple[str, ...] | None = None
    finished: tuple[bool, ...] | None = None
    rewards: tuple[float | None, ...] | None = None
    revision: str | None = None

    @property
    def first_turn(self) -> str:
        return first_user_turn(self.prompt)

    @property
    def key(self) -> Key:
        return key_of(self.prompt)

    def keep(self, places: Sequence[int]) -> "Candidates":
        """Some of the responses, with what stands beside them."""
        responses = tuple(self.responses[place] for place in places)
        beside: dict[str, Any] = {
            name: tuple(values[place] for place in places)
            for name in ("sources", "finished", "rewards")
            if (values := getattr(self, name)) is not None
        }
        return replace(self, responses=responses, **beside)

    def ended(self) -> list[tuple[str, bool]]:
        """Each response, and whether it finished by itself; all did where that is not known."""
        finished = self.finished or (True,) * len(self.responses)
        return list(zip(self.responses, finished, strict=True))

    def known(self) -> list[tuple[int, float]]:
        """Places of the responses that have a reward, and it. DataError before scoring."""
        if self.rewards is None:
            raise DataError("candidates without rewards: have a service score them first")
        return [(place, one) for place, one in enumerate(self.rewards) if one is not None]


@dataclass
class File:
    """The rows of a file, the digest of its bytes, and what did not fit with its line."""

    path: Path
    digest: str
    rows: list[Candidates] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)

    def report(self) -> str:
        """One line for a log, never a row's text."""
        count = sum(len(one.responses) for one in self.rows)
        return f"{self.path}: {len(self.rows)} prompts, {count} responses{said_of(self.refused)}"


def load(path: Path) -> File:
    """Read every row; what does not fit is kept with its line and reason."""
    digest, rows = rows_of_file(Source(name="candidates", path=path))
    found = File(path, digest)
    found.rows = [one for _, one in fitting(rows, lambda row, _: of_row(row), found.refused)]
    if not found.rows:
        raise DataError(f"{found.report()}: no row holds a prompt and a list of responses")
    return found


def read(path: Path) -> list[Candidates]:
    """The rows of a file of our own making, in which each must fit."""
    found = load(path)
    if found.refused:
        raise DataError(f"{found.report()}: remove {path} to have it made again")
    return found.rows


def write(path: Path, rows: Iterable[Candidates]) -> None:
    """Whole or not at all."""
    write_rows(path, map(row_of, rows))


def key_of(turns: Sequence[Message]) -> Key:
    return tuple((turn["role"], turn["content"]) for turn in turns)


def joined(rows: Iterable[Candidates]) -> list[Candidates]:
    """As ``by_prompt``, of distinct responses."""
    found = []
    for one in by_prompt(rows):
        first = {text: place for place, text in reversed([*enumerate(one.responses)])}
        found.append(one.keep(sorted(first.values())))
    return found


def by_prompt(rows: Iterable[Candidates]) -> list[Candidates]:
    """Rows of one prompt together, as one. Sources that are not known of all of them are left out;
    responses of which only some are said to have finished did so where nothing is said. Rewards
    are left out: they may be of several scorers."""
    same: dict[Key, list[Candidates]] = {}
    for one in rows:
        same.setdefault(one.key, []).append(one)
    return [_as_one(several) for several in same.values()]


def _as_one(several: Sequence[Candidates]) -> Candidates:
    ends = [end for one in several for end in one.ended()]
    sources = [one.sources for one in several]
    told = any(one.finished is not None for one in several)
    return Candidates(
        several[0].prompt,
        tuple(response for response, _ in ends),
        sources=None if None in sources else tuple(name for part in sources for name in part or ()),
        finished=tuple(finished for _, finished in ends) if told else None,
    )


def row_of(one: Candidates) -> Row:
    row: Row = {"prompt": list(one.prompt), "responses": list(one.responses)}
    for name in ("sources", "finished", "rewards"):
        values = getattr(one, name)
        if values is not None:
            row[name] = list(values)
    return row if one.revision is None else row | {"revision": one.revision}


def of_row(row: Row) -> Candidates:
    """RowError where it does not fit. An empty response fits: a policy may have nothing to say."""
    columns = Columns(row, {})
    prompt = prompt_of(columns)
    responses = texts(columns("responses"), "responses")
    if not responses:
        raise RowError("no response")
    count = len(responses)
    revision = columns.get("revision")
    return Candidates(
        prompt,
        tuple(responses),
        sources=_beside(columns, "sources", count, text),
        finished=_beside(columns, "finished", count, _truth),
        rewards=_beside(columns, "rewards", count, _reward),
        revision=None if revision is None else text(revision),
    )


def _beside(columns: Columns, name: str, count: int, read: Any) -> tuple[Any, ...] | None:
    given = columns.get(name)
    if given is None:
        return None
    values = items(given, name)
    if len(values) != count:
        raise RowError(f"{name} are {len(values)}, the responses {count}")
    return tuple(read(value) for value in values)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RowError("finished is not true or false")
    return value


def _reward(value: Any) -> float | None:
    """A value that is not finite is no reward, and no null either."""
    return None if value is None else number(value, "a reward")
