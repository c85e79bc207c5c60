"""A stand-in for the service in tests of code that calls it: real HTTP, no model, no torch.

    def test_my_reward_function():
        with FakeServer(lambda item: len(item.response)) as server:
            assert my_reward_function(server.url, "Hi", "Hello") == 5.0

It keeps to the wire format of the service, and fails when told to. Nothing of it is random.
"""

import hashlib
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec

from plaudit.testing import fake_answers
from plaudit.testing.fake_answers import Outcomes, Reward
from plaudit.wire import (
    EnsembleRequest,
    Item,
    ItemError,
    ModelInfo,
    ModelList,
    Problem,
    ScoreRequest,
)

REVISION = "sha256:" + 64 * "0"
MAX_TOKENS = 4096


def reward_by_digest(item: Item) -> float:
    """The default: in [-1, 1), different for different items, the same everywhere and always."""
    digest = hashlib.sha256(msgspec.json.encode(item)).digest()
    return int.from_bytes(digest[:4]) / 2**31 - 1


@dataclass(frozen=True)
class Received:
    """One request as it came; ``headers`` have lower-case names."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Refused(Exception):
    """Ends a request with a problem, or without an answer if ``status`` is 0."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        revision: str | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers = headers or {}
        self.revision = revision


class FakeServer:
    """Answers ``/score``, ``/ensemble_score``, ``/models`` and ``/readyz`` on a free loopback port,
    from ``with`` to its end.

    ``reward`` gives each item its reward, or the ``ItemError`` that it has in its stead. There is
    one model, and one ensemble of as many members as ``offsets``, each of which is added to that
    reward. Their ``revision`` may be set while it runs. ``requests`` are those that came, in order.
    """

    def __init__(
        self,
        reward: Reward = reward_by_digest,
        *,
        model: str = "fake",
        ensemble: str = "fake-ensemble",
        offsets: Sequence[float] = (-0.5, 0.5),
        api_key: str | None = None,
        port: int = 0,
    ) -> None:
        self.reward, self.model, self.ensemble = reward, model, ensemble
        self.offsets, self.api_key = tuple(offsets), api_key
        self.revision = REVISION
        self.requests: list[Received] = []
        self._refusals: deque[Refused] = deque()
        self._open = threading.Event()
        self._open.set()
        self._http = _Listener(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def refuse(self, times: int = 1, status: int = 503, retry_after_seconds: float = 0.01) -> None:
        """Answer the next requests with a problem, by default that the queue stayed full."""
        headers = {
            "Retry-After": str(max(1, round(retry_after_seconds))),
            "retry-after-ms": str(round(retry_after_seconds * 1000)),
        }
        kind = {503: "overloaded", 504: "deadline"}.get(status, "internal")
        self._refusals.extend([Refused(status, kind, "as the test said", headers)] * times)

    def drop(self, times: int = 1) -> None:
        """Close the connections of the next requests without an answer."""
        self._refusals.extend([Refused(0, "internal", "dropped")] * times)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, requests are received but wait for their answers."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        self._http.shutdown()
        self._http.server_close()
        self._http.hang_up()
        self._thread.join()

    def answer(self, method: str, received: Received) -> msgspec.Struct | dict[str, str]:
        """What the request gets. Raises Refused."""
        self.requests.append(received)
        self._open.wait()
        if self._refusals:
            raise self._refusals.popleft()
        if received.path in ("/readyz", "/livez"):
            return {"status": "ready" if received.path == "/readyz" else "alive"}
        given = received.headers.get("authorization", "")
        if self.api_key is not None and given != f"Bearer {self.api_key}":
            raise Refused(401, "unauthenticated", "no accepted key in the Authorization header")
        match method, received.path:
            case "GET", "/models":
                return ModelList(self._infos())
            case "POST", "/score":
                return self._score(_decoded(received.body, ScoreRequest))
            case "POST", "/ensemble_score":
                return self._ensemble_score(_decoded(received.body, EnsembleRequest))
        raise Refused(404, "not-found", "Not Found")

    def _score(self, asked: ScoreRequest) -> msgspec.Struct:
        self._check(asked.model, self.model, asked.revision)
        if asked.weights is not None:
            raise Refused(422, "malformed", f"weights are of a bundle; {self.model} is one model")
        outcomes = self._outcomes(asked)
        return fake_answers.scored(outcomes, self.model, self.revision)

    def _ensemble_score(self, asked: EnsembleRequest) -> msgspec.Struct:
        self._check(asked.ensemble, self.ensemble, asked.revision)
        outcomes = self._outcomes(asked)
        return fake_answers.scored_by_all(
            outcomes, asked, self.ensemble, self.revision, self.offsets
        )

    def _outcomes(self, asked: ScoreRequest | EnsembleRequest) -> Outcomes:
        items = asked.items
        if (items is None) == (asked.groups is None):
            raise Refused(422, "malformed", "a request has either items or groups")
        if items is None:
            groups = asked.groups or []
            items = [Item(prompt=g.prompt, response=text) for g in groups for text in g.responses]
        given = [(item, self.reward(item)) for item in items]
        return [(i, r if isinstance(r, ItemError) else float(r)) for i, r in given]

    def _check(self, name: str | None, own: str, revision: str | None) -> None:
        if name not in (None, own):
            raise Refused(404, "unknown-model", f"no model {name!r}; loaded: ['{own}']")
        if revision not in (None, self.revision):
            said = f"{own} is {self.revision}, and {revision} was asked for"
            raise Refused(409, "revision-changed", said, revision=self.revision)

    def _infos(self) -> list[ModelInfo]:
        members = [f"member-{n}" for n in range(len(self.offsets))]
        one = ModelInfo(self.model, "single", self.revision, MAX_TOKENS, "float32", [])
        many = ModelInfo(self.ensemble, "ensemble", self.revision, MAX_TOKENS, "float32", members)
        return [one, msgspec.structs.replace(many, min_members=len(members))]


def _decoded(body: bytes, kind: type[fake_answers.R]) -> fake_answers.R:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Refused(422, "malformed", str(error)) from None


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], fake: FakeServer) -> None:
        super().__init__(address, _Handler)
        self.fake = fake
        self._connections: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().close_request(request)

    def hang_up(self) -> None:
        """On callers that keep their connections, as the end of a process would."""
        for connection in [*self._connections]:
            with suppress(OSError):  # that of a caller who is faster
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A traceback, as of a user's rule that fails. That a caller gave up is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # the caller gave up while it sent
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            answer = self.server.fake.answer(self.command, Received(self.path, headers, body))
            self._send(200, msgspec.json.encode(answer), {"Content-Type": "application/json"})
        except Refused as refused:
            self._refuse(refused)

    do_GET = do_POST

    def _refuse(self, refused: Refused) -> None:
        if refused.status == 0:
            self.close_connection = True
            return
        problem = Problem(
            type=f"about:blank#{refused.kind}",
            title=HTTPStatus(refused.status).phrase,
            status=refused.status,
            detail=refused.detail,
            remedy="see the test that uses this fake server",
            retryable=refused.status in (503, 504),
            instance=self.headers.get("X-Request-Id", ""),
            revision=refused.revision,
        )
        headers = {"Content-Type": "application/problem+json", **refused.headers}
        self._send(refused.status, msgspec.json.encode(problem), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
