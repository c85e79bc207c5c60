"""From an HTTP answer to a value, or to the exception it stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from plaudit.client.errors import ProblemError, RevisionChanged, UnexpectedAnswer
from plaudit.client.retry import RETRIED_STATUSES, asked_pause
from plaudit.wire import ItemError, Problem

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """``headers`` has lower-case names or ignores case. ``pinned`` is the revision that the request
    was for, or None."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str
    pinned: str | None = None

    def origin(self) -> str:
        """Who seems to have answered, without quoting a body that may hold a prompt."""
        kind = self.headers.get("content-type", "no content type")
        return f"{self.url} answered with {kind} from {self.headers.get('server', 'a server')}"


def decode(answer: Answer, kind: type[T]) -> T:
    """The body of a 200. Raises UnexpectedAnswer."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as error:
        unexpected = UnexpectedAnswer(
            f"{answer.origin()}, not a {kind.__name__} ({error}). Check base_url and both versions."
        )
        unexpected.request_id = answer.request_id
        raise unexpected from error


def raise_for_status(answer: Answer, date: float) -> None:
    """Raises ProblemError, or RevisionChanged, unless the status is 200.

    ``date`` is now, in seconds since 1970.
    """
    if answer.status == 200:
        return
    try:
        problem = msgspec.json.decode(answer.body, type=Problem)
    except msgspec.DecodeError:
        problem = foreign_problem(answer)
    if answer.status == 409 and problem.revision is not None:
        raise RevisionChanged([problem.revision], answer.pinned)
    raise ProblemError(problem, answer.status, asked_pause(answer.headers, date))


# Errors of items that are of the moment, as a 503 is.
PASSING_FAULTS = ("engine-fault", "capacity")


class Answered(msgspec.Struct):
    """As much of an answer as says what became of its items."""

    class Item(msgspec.Struct):
        error: ItemError | UnsetType = UNSET

    items: list[Item]


def raise_for_faults(answer: Answer) -> None:
    """Raises ProblemError, as of a 503, for a 200 with an item on which the engine failed: that is
    of the moment and not of the item."""
    for place, item in enumerate(decode(answer, Answered).items):
        if item.error is not UNSET and item.error.type in PASSING_FAULTS:
            problem = Problem(
                type="about:blank",
                title="The forward of an item failed",
                status=503,
                detail=f"item {place} of the request: {item.error.detail}",
                remedy="retry; if it stays so see the server's log",
                retryable=True,
                instance=answer.request_id,
            )
            raise ProblemError(problem, problem.status)


def foreign_problem(answer: Answer) -> Problem:
    """Stands for an error that is not Plaudit's own, such as a proxy's page."""
    return Problem(
        type="about:blank",
        title=_title(answer.status),
        status=answer.status,
        detail=f"{answer.origin()}, not with a problem of Plaudit",
        remedy="check base_url and the proxies between",
        retryable=answer.status in RETRIED_STATUSES,
        instance=answer.request_id,
    )


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown Status"
