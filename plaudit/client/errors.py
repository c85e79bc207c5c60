"""What the client raises. All of it pickles, because workers hand exceptions to their driver."""

from collections.abc import Mapping, Sequence

from plaudit.wire import ItemError, Problem

NAMED_ITEMS = 3


class PlauditError(Exception):
    """Parent of everything the client raises on purpose.

    ``request_id`` is the ``X-Request-Id`` of the request that failed, as in the service's log; None
    where no single one did.
    """

    request_id: str | None = None

    def text(self) -> str:
        return super().__str__()

    def __str__(self) -> str:
        return self.text() + (f" [request {self.request_id}]" if self.request_id else "")


class ProblemError(PlauditError):
    """The service, or a proxy before it, refused.

    ``status`` is that of HTTP. ``retry_after_seconds`` is what the server asked for, or None.
    """

    def __init__(
        self, problem: Problem, status: int, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(problem, status, retry_after_seconds)
        self.problem = problem
        self.status = status
        self.retry_after_seconds = retry_after_seconds

    def text(self) -> str:
        said = self.problem
        return f"{self.status} {said.title}: {said.detail} ({said.remedy})"


class Unreachable(PlauditError):
    """No answer: the connection failed. ``retryable`` is false where trying again cannot help."""

    def __init__(self, detail: str, retryable: bool) -> None:
        super().__init__(detail, retryable)
        self.detail = detail
        self.retryable = retryable

    def text(self) -> str:
        return self.detail


class DeadlineExceeded(PlauditError):
    """The call's time is over, or ends before the next attempt may start; see ``__cause__``."""


class UnexpectedAnswer(PlauditError):
    """A 200 that does not keep to the wire format: another program, or another version, answers."""


class RevisionChanged(PlauditError):
    """Other ``revisions`` answer than the rewards are to be of; those of two do not compare.

    Either the batches of one call were scored by different ones, or an ensemble aggregated them in
    different ways, or ``pinned`` was asked for and the service has another.
    """

    def __init__(self, revisions: Sequence[str], pinned: str | None = None) -> None:
        super().__init__(revisions, pinned)
        self.revisions = revisions
        self.pinned = pinned

    def text(self) -> str:
        seen = ", ".join(self.revisions)
        if self.pinned is None:
            return f"the model changed during the call ({seen}). Score the whole list again."
        return (
            f"{self.pinned} was asked for, and the service has {seen}. Rewards of the two do not "
            "compare: pin the new revision, or serve the old one again."
        )


class ItemsFailed(PlauditError):
    """Items without a reward: ``errors`` maps their positions to the reasons."""

    def __init__(self, errors: Mapping[int, ItemError], of: int) -> None:
        super().__init__(errors, of)
        self.errors = errors
        self.of = of

    def text(self) -> str:
        named = list(self.errors.items())[:NAMED_ITEMS]
        reasons = "; ".join(f"item {n}: {error.type}, {error.detail}" for n, error in named)
        more = len(self.errors) - len(named)
        tail = f"; and {more} more" if more else ""
        return f"{len(self.errors)} of {self.of} items have no reward: {reasons}{tail}"
