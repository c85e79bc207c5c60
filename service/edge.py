"""The outermost layer: request id, entrance, problems, metrics and one log line per request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.routing import Route as Served
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import answer_headers
from service.audit import Act, Audit, By
from service.entrance import Entrance, NotLetIn
from service.logs import event, log
from service.metrics import Metrics
from service.problems import Failure, problem
from service.request_headers import is_retry, request_id
from service.routes import METRICS, OPS_MODELS, PROBES, UNKNOWN, Route, Routes, Use
from service.scoring_routes import scores
from service.traces import OFF
from service.unread import Unread

# nginx's status for a caller that hung up; it is only logged and counted.
CLIENT_CLOSED_REQUEST = 499
# Asked every few seconds by machines: not logged, not traced.
QUIET = tuple(route.path for route in (*PROBES, METRICS, OPS_MODELS))

NOT_LET_IN = ("unauthenticated", "forbidden")
# How a key is sent, in the words of RFC 9110; a browser asks for it where it is told Basic.
BEARER = 'Bearer realm="plaudit"'
CHALLENGES: dict[Use, str] = {"metrics": f'{BEARER}, Basic realm="plaudit"'}


class Edge:
    """ASGI around the application: what fails inside is answered here, in the route's own words."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Routes,
        entrance: Entrance,
        metrics: Metrics,
        audit: Audit | None = None,
        unread: Unread | None = None,
    ):
        self._app, self._routes = app, routes
        self._entrance, self._metrics, self._audit = entrance, metrics, audit
        self._unread = unread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        key = self._entrance.take_key(scope)
        route = self._routes.of(scope["path"])
        request = Request(scope, receive)
        what = f"{method_of(scope)} {route.path}"
        if is_retry(scope["headers"]):
            self._metrics.requests.retries.inc()
        sending = Sending(send, request_id(request.headers))
        traces = OFF if route.path in QUIET else self._metrics.traces
        with traces.request(what, request.headers):
            try:
                with self._audited(scope, route, what, sending):
                    await self._answer(request, sending, route, key)
            finally:
                self._record(scope, route.path, sending, time.perf_counter() - began)

    @contextmanager
    def _audited(self, scope: Scope, route: Route, what: str, sending: "Sending") -> Iterator[None]:
        """A request to administrate has a line of the audit log, however it ends; any other of
        that port where it is not let in."""
        if self._audit is None:
            yield
            return
        state = scope.setdefault("state", {})
        by = By(None, (scope.get("client") or ("unknown",))[0], sending.instance)
        act = state["act"] = Act(self._audit, what, by)
        try:
            yield
        finally:
            who = state.get("client")
            if sending.kind in NOT_LET_IN:
                self._audit.refused(what, sending.kind, **replace(by, who=who).said())
            elif route.use == "admin":
                ended = "done" if sending.status < 400 else "unanswered"
                act.ends(sending.kind or ended, who, sending.status)

    async def _answer(
        self, request: Request, sending: "Sending", route: Route, key: str | None
    ) -> None:
        scope, receive = request.scope, request.receive
        authorization = request.headers.get("authorization")
        try:
            client = self._entrance.check(scope, route.use, authorization, key)
            scope.setdefault("state", {})["client"] = client
            if self._unread is not None and scope["method"] == "POST" and scores(route.path):
                self._unread.refuse(request.headers, client)
            # What is not declared has been let in as what is not there, and must stay that, even
            # where the application would find a route.
            app = self._app if route is not UNKNOWN else self._nowhere(request)
            await app(scope, receive, sending)
        except NotLetIn as failure:
            scope.setdefault("state", {})["client"] = failure.client
            await self._refusal(failure, route, sending)(scope, receive, sending)
        except Failure as failure:
            await self._refusal(failure, route, sending)(scope, receive, sending)
        except ClientDisconnect:
            sending.status = CLIENT_CLOSED_REQUEST
        except Exception:  # noqa: BLE001  the one place where an unforeseen failure is answered
            log.exception("internal", extra={"fields": {"instance": sending.instance}})
            unforeseen = Failure("internal", "an unforeseen failure")
            await self._refusal(unforeseen, route, sending)(scope, receive, sending)

    def _nowhere(self, request: Request) -> Response:
        """The way to the declared route that only a slash at the end is too much for; or Failure
        "not-found", with what ``app.state.instead`` knows of the path."""
        path: str = request.scope["path"]
        shorter = path.rstrip("/")
        if shorter != path and self._routes.of(shorter) is not UNKNOWN:
            query = request.scope["query_string"].decode("latin-1")
            return RedirectResponse(quote(shorter) + (f"?{query}" if query else ""))
        raise not_found(request, "Not Found")

    def _refusal(self, failure: Failure, route: Route, sending: "Sending") -> Response:
        """What says that ``failure`` happened: problem+json, or as the route's peer would."""
        sending.kind = failure.kind
        self._metrics.requests.errors.labels(route.path, failure.kind).inc()
        if route.refuse is None:
            status, body = failure.status, msgspec.json.encode(problem(failure, sending.instance))
            media = "application/problem+json"
        else:
            status, refusal = route.refuse(failure)
            body, media = msgspec.json.encode(refusal), "application/json"
        headers = {}
        if failure.retry_after_seconds is not None:
            headers["retry-after"] = str(failure.retry_after_seconds)
        if failure.allow is not None:
            headers["allow"] = failure.allow
        if failure.status == 401:
            headers["www-authenticate"] = CHALLENGES.get(route.use, BEARER)
        return Response(body, status, headers, media)

    def _record(self, scope: Scope, route: str, sent: "Sending", seconds: float) -> None:
        method, status, requests = method_of(scope), sent.status, self._metrics.requests
        requests.http.labels(route, method, str(status)).inc()
        requests.http_seconds.labels(route, f"{status // 100}xx").observe(seconds)
        if route in QUIET:
            return
        state = scope.get("state", {})
        fields = state.get("log", {})
        if fields:
            requests.client_items[state["client"],].inc(fields["items"])
        self._metrics.traces.describe(route, method, status, fields)
        event(
            "request", instance=sent.instance, route=route, method=method, status=status,
            milliseconds=round(seconds * 1000, 2), **fields,
        )  # fmt: skip


class Sending:
    """Sends an answer with the id of its request, and remembers its status and its problem."""

    def __init__(self, send: Send, instance: str):
        self._send, self.instance, self.status = send, instance, 500
        self.kind = ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] += [
                (b"x-request-id", self.instance.encode()),
                *answer_headers.missing(message["headers"]),
            ]
        await self._send(message)


def method_of(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "DELETE") else "other"


async def http_failure(request: Request, error: Exception) -> Response:
    """Starlette's own 404, of a route that is declared and not there yet, and 405, as problems."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        raise not_found(request, str(error.detail))
    if error.status_code == 405:
        raise Failure("method-not-allowed", str(error.detail), allow=methods_of(request))
    raise error


def not_found(request: Request, detail: str) -> Failure:
    """With what ``app.state.instead`` knows of the path."""
    return Failure("not-found", request.app.state.instead(request.scope["path"]) or detail)


def methods_of(request: Request) -> str:
    """All methods of the path, which a path of two servers has in several routes."""
    found = {
        method
        for route in request.app.routes
        if isinstance(route, Served) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return ", ".join(sorted(found))
