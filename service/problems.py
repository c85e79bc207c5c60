"""The failures of the service: each with its status, its type and what mends it."""

import re
from dataclasses import dataclass

from plaudit.wire import Problem

DOCS = "https://github.com/plaudit/plaudit/blob/main/docs/problems.md"


@dataclass(frozen=True)
class Kind:
    status: int
    title: str
    remedy: str
    retryable: bool = False


# The closed set of types: the label of plaudit_errors_total and the anchors of docs/problems.md.
KINDS = {
    "malformed": Kind(422, "The body does not fit the schema", "compare it with /openapi.json"),
    "unauthenticated": Kind(
        401, "A key is needed", "send Authorization: Bearer KEY with a key of the server"
    ),
    "forbidden": Kind(
        403, "The key does not open this route", "use a key with the scope that detail names"
    ),
    "unscorable": Kind(
        422, "An item has no reward", "mend the item, or let --compat-on-error stand in for it"
    ),
    "unknown-model": Kind(404, "No such model is loaded", "GET /models lists the names"),
    "not-found": Kind(404, "No such route", "see /docs for the routes"),
    "method-not-allowed": Kind(405, "The route has other methods", "see /docs for the methods"),
    "revision-changed": Kind(
        409,
        "The model has another revision",
        "GET /models lists the revisions; send the new one, or none",
    ),
    "too-large": Kind(413, "The request is too large", "split it, or raise the server's limit"),
    "encoded": Kind(415, "The body is compressed", "send it without Content-Encoding"),
    "overloaded": Kind(
        503, "The queue stayed full", "retry after the time in Retry-After", retryable=True
    ),
    "quota": Kind(
        429,
        "The quota of the key is used up",
        "retry after the time in Retry-After, allow more time, or ask for a larger quota",
        retryable=True,
    ),
    "not-ready": Kind(
        503, "The engine is not ready", "retry after the time in Retry-After", retryable=True
    ),
    "deadline": Kind(
        504, "Not done within the deadline", "retry, or allow more time", retryable=True
    ),
    "engine-fault": Kind(
        503, "The forward of an item failed", "retry after the time in Retry-After", retryable=True
    ),
    "capacity": Kind(
        503, "No memory for a forward", "retry after the time in Retry-After", retryable=True
    ),
    "unknown-checkpoint": Kind(
        404, "No such checkpoint below the model root", "put it there, and send its name"
    ),
    "bad-checkpoint": Kind(
        422, "The checkpoint is refused", "mend what detail names; what was served still is"
    ),
    "swap-in-progress": Kind(
        409, "Another swap is under way", "send it again when that one has ended", retryable=True
    ),
    "swap-cancelled": Kind(
        409, "The swap was cancelled", "send it again; what was served still is", retryable=True
    ),
    "no-swap": Kind(404, "No swap is under way", "GET /admin/swaps lists how the latest ended"),
    "no-memory": Kind(
        507, "No room for a second model", "free memory, or restart the server with the new one"
    ),
    "swap-unsupported": Kind(
        501, "The engine swaps no models", "restart the server with the new checkpoint"
    ),
    "internal": Kind(500, "The server failed", "see the server's log for this instance"),
}


class Failure(Exception):
    """Ends a request; ``kind`` is a key of KINDS. ``revision``: that of what is loaded; ``allow``:
    the methods that a route has, where another was used."""

    def __init__(
        self,
        kind: str,
        detail: str,
        retry_after_seconds: int | None = None,
        revision: str | None = None,
        allow: str | None = None,
    ):
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.revision = revision
        self.allow = allow

    @property
    def status(self) -> int:
        return KINDS[self.kind].status


def quote(value: str, longest: int = 64) -> str:
    """A short caller-supplied *name* as it may stand in an error: printable and bounded."""
    return re.sub(r"[^\x20-\x7e]", "?", value[:longest])


def problem(failure: Failure, instance: str) -> Problem:
    kind = KINDS[failure.kind]
    return Problem(
        type=f"{DOCS}#{failure.kind}",
        title=kind.title,
        status=kind.status,
        detail=failure.detail,
        remedy=kind.remedy,
        retryable=kind.retryable,
        instance=instance,
        revision=failure.revision,
    )
