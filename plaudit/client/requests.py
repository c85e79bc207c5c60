"""From a client's options and one call to HTTP requests, and from HTTP failures to ours."""

import logging
import sys
from dataclasses import dataclass, field, replace

import httpx2
import msgspec

from plaudit.client.answers import Answer, raise_for_faults, raise_for_status
from plaudit.client.batches import Budget
from plaudit.client.errors import DeadlineExceeded, Unreachable
from plaudit.client.retry import DEADLINE_HEADER, Clock, Deadline, Retry
from plaudit.client.tracing import ExtraHeaders, trace_headers
from plaudit.wire import EnsembleRequest, ScoreRequest

CONNECT_SECONDS = 5.0
# Below the 5 s after which uvicorn closes an idle connection, lest a request meets the closing.
KEEP_SECONDS = 4.0
RETRY_HEADER = "X-Plaudit-Retry-Count"
# Of each request its own: they are not the caller's to set.
OWN_HEADERS = {
    "accept",
    "authorization",
    "content-type",
    "user-agent",
    "x-request-id",
    DEADLINE_HEADER.lower(),
    RETRY_HEADER.lower(),
}


@dataclass(frozen=True)
class Call:
    """One HTTP request, before its deadline and key; ``replicas`` are its URLs to try in turn,
    ``retries`` how often it was tried before."""

    method: str
    path: str
    replicas: tuple[str, ...]
    request_id: str
    body: ScoreRequest | EnsembleRequest | None = None
    headers: dict[str, str] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True)
class Options:
    """What a client was made with. Raises ValueError for what no call could work with."""

    base_urls: tuple[str, ...]
    api_key: str | None = field(repr=False)
    model: str | None
    revision: str | None
    timeout_seconds: float
    budget: Budget
    concurrency: int
    headers: ExtraHeaders | None
    retry: Retry
    retry_faults: bool
    clock: Clock

    def __post_init__(self) -> None:
        self._check_urls()
        key = self.api_key
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ValueError("api_key holds white space or other characters no key has: strip it")
        if self.timeout_seconds <= 0 or self.concurrency < 1:
            raise ValueError("timeout_seconds and concurrency must be above zero")
        if self.budget.items < 1 or self.budget.tokens < 1:
            raise ValueError("batch_items and batch_tokens must be above zero")
        if self.retry.max_retries < 0:
            raise ValueError("max_retries must not be negative")

    def _check_urls(self) -> None:
        for base_url in self.base_urls:
            url = httpx2.URL(base_url)
            if url.scheme not in ("http", "https") or not url.host:
                raise ValueError("base_url starts with http:// or https:// and a host")
        if not self.base_urls or len(set(self.base_urls)) < len(self.base_urls):
            raise ValueError("base_url is one URL, or a list of different ones")

    def deadline(self, timeout_seconds: float) -> Deadline:
        return Deadline(timeout_seconds, self.clock.now() + timeout_seconds, self.clock.now)

    def patient(self) -> Retry:
        """For a service that is expected not to be there yet."""
        return replace(
            self.retry, max_retries=sys.maxsize, longest_seconds=1.0, log_level=logging.DEBUG
        )

    def limits(self) -> httpx2.Limits:
        return httpx2.Limits(
            max_keepalive_connections=self.concurrency, keepalive_expiry=KEEP_SECONDS
        )

    def caller_headers(self) -> dict[str, str]:
        """The trace of the caller, and what its ``headers`` gives. Raises ValueError."""
        own = {} if self.headers is None else dict(self.headers())
        if taken := sorted(OWN_HEADERS & {name.lower() for name in own}):
            raise ValueError(f"headers gives {taken}, which the client sets itself: leave them out")
        return trace_headers() | own

    def http_request(self, call: Call, base_url: str, left: float) -> httpx2.Request:
        """``left``: seconds until the deadline, which the service is told and sockets keep to."""
        headers = call.headers | {
            "Accept": "application/json",
            "User-Agent": "plaudit",
            "X-Request-Id": call.request_id,
            DEADLINE_HEADER: str(max(1, int(left * 1000))),
        }
        if call.retries:
            headers[RETRY_HEADER] = str(call.retries)
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        content = None
        if call.body is not None:
            headers["Content-Type"] = "application/json"
            content = msgspec.json.encode(call.body)
        timeout = httpx2.Timeout(left, connect=min(left, CONNECT_SECONDS))
        return httpx2.Request(
            call.method,
            base_url.rstrip("/") + call.path,
            headers=headers,
            content=content,
            extensions={"timeout": timeout.as_dict()},
        )

    def answer(self, call: Call, response: httpx2.Response, body: bytes) -> Answer:
        """Raises ProblemError, or RevisionChanged, unless the response is a 200; with
        ``retry_faults`` for one with an item on which the engine failed, too."""
        answer = Answer(
            _shown(response.url),
            response.status_code,
            response.headers,
            body,
            call.request_id,
            pinned=None if call.body is None else call.body.revision,
        )
        raise_for_status(answer, self.clock.date())
        if self.retry_faults and call.body is not None:
            raise_for_faults(answer)
        return answer


def lost(error: httpx2.RequestError, deadline: Deadline) -> Unreachable | DeadlineExceeded:
    """What a failed connection means; sockets time out at the deadline, except in connecting."""
    if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
        return deadline.exceeded()
    passing = (
        httpx2.NetworkError,
        httpx2.RemoteProtocolError,
        httpx2.ConnectTimeout,
        httpx2.ProxyError,
    )
    detail = f"no answer from {_shown(error.request.url)} ({type(error).__name__}: {error})"
    return Unreachable(detail, retryable=isinstance(error, passing))


def _shown(url: httpx2.URL) -> str:
    """Without the credentials that a URL may carry."""
    return str(url.copy_with(userinfo=b""))
