"""What the headers of a request say: its deadline, how urgent it is, who sent it, its id."""

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import cast, get_args

from starlette.requests import Request

from service.fair_queue import Caller, Priority
from service.problems import Failure

RETRY_HEADERS = (b"x-plaudit-retry-count", b"x-stainless-retry-count")
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def deadline_seconds(headers: Mapping[str, str], limit: float) -> float:
    """What the caller allows (X-Request-Deadline-Ms), at most the server's limit."""
    value = headers.get("x-request-deadline-ms")
    if value is None:
        return limit
    if not re.fullmatch("[0-9]{1,12}", value) or int(value) == 0:
        raise Failure("malformed", "X-Request-Deadline-Ms is not a positive number of milliseconds")
    return min(limit, int(value) / 1000)


def priority(headers: Mapping[str, str]) -> Priority:
    """How urgent the caller says it is (X-Priority)."""
    value = headers.get("x-priority", "train")
    for known in get_args(Priority):
        if value == known:
            return cast(Priority, known)
    raise Failure("malformed", f"X-Priority is not one of {', '.join(get_args(Priority))}")


def is_retry(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the caller says that it asked before: our client, or one that OpenAI's SDK is in."""
    counts = [value for name, value in headers if name in RETRY_HEADERS]
    return any(count.isdigit() and count.strip(b"0") for count in counts)


def caller_of(request: Request) -> Caller:
    """Who asks, as the entrance found, and how urgently."""
    return Caller(priority(request.headers), request.state.client)


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's X-Request-Id if it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
