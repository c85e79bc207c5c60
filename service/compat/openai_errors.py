"""Failures as vLLM and OpenAI's clients read them."""

from msgspec import Struct

from service.problems import KINDS, Failure

# Of statuses; any other is the server's fault.
TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    413: "BadRequestError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
}


class ErrorInfo(Struct, frozen=True):
    """``message`` says what mends it; ``code`` is the status, ``problem`` our type of it."""

    message: str
    type: str
    code: int
    problem: str
    param: None = None


class ErrorBody(Struct, frozen=True):
    error: ErrorInfo


def refuse(failure: Failure) -> tuple[int, ErrorBody]:
    """What vLLM calls a bad request is 400 there, and 422 on our own routes."""
    status = 400 if failure.status == 422 else failure.status
    kind = TYPES.get(status, "InternalServerError")
    return status, ErrorBody(ErrorInfo(message_of(failure), kind, status, failure.kind))


def message_of(failure: Failure) -> str:
    """What is wrong, and what mends it."""
    return f"{failure.detail}; {KINDS[failure.kind].remedy}"
