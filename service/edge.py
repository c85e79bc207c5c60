"""The outermost layer: request id, entrance, problems, metrics and one log line per request."""

import time

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.entrance import Entrance
from service.hardening import request_id
from service.logs import event, log
from service.metrics import Metrics
from service.problems import Failure, problem
from service.routes import Route, Routes

# nginx's status for a caller that hung up; it is only logged and counted.
CLIENT_CLOSED_REQUEST = 499


class Edge:
    """ASGI around the application: what fails inside is answered here, in the route's own words."""

    def __init__(self, app: ASGIApp, routes: Routes, entrance: Entrance, metrics: Metrics):
        self._app, self._routes = app, routes
        self._entrance, self._metrics = entrance, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        key = self._entrance.take_key(scope)
        route = self._routes.of(scope["path"])
        request = Request(scope, receive)
        instance = request_id(request.headers)
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", instance.encode()))
            await send(message)

        try:
            self._entrance.check(scope, request.headers.get("authorization"), key)
            await self._app(scope, receive, send_with_id)
        except Failure as failure:
            await self._refusal(failure, route, instance)(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        except Exception:  # noqa: BLE001  the one place where an unforeseen failure is answered
            log.exception("internal", extra={"fields": {"instance": instance}})
            unforeseen = Failure("internal", "an unforeseen failure")
            await self._refusal(unforeseen, route, instance)(scope, receive, send_with_id)
        finally:
            self._record(scope, route.path, instance, status, time.perf_counter() - began)

    def _refusal(self, failure: Failure, route: Route, instance: str) -> Response:
        """What says that ``failure`` happened: problem+json, or as the route's peer would."""
        self._metrics.errors.labels(route.path, failure.kind).inc()
        if route.refuse is None:
            status, body = failure.status, msgspec.json.encode(problem(failure, instance))
            media = "application/problem+json"
        else:
            status, refusal = route.refuse(failure)
            body, media = msgspec.json.encode(refusal), "application/json"
        headers = {}
        if failure.retry_after_seconds is not None:
            headers["retry-after"] = str(failure.retry_after_seconds)
        return Response(body, status, headers, media)

    def _record(self, scope: Scope, route: str, instance: str, status: int, seconds: float) -> None:
        method = method_of(scope)
        self._metrics.http_requests.labels(route, method, str(status)).inc()
        self._metrics.http_seconds.labels(route, f"{status // 100}xx").observe(seconds)
        if route in ("/livez", "/readyz", "/metrics"):
            return
        fields = scope.get("state", {}).get("log", {})
        event(
            "request", instance=instance, route=route, method=method, status=status,
            milliseconds=round(seconds * 1000, 2), **fields,
        )  # fmt: skip


def method_of(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"


async def http_failure(_: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, as problems."""
    assert isinstance(error, HTTPException)
    kinds = {404: "not-found", 405: "method-not-allowed"}
    if error.status_code not in kinds:
        raise error
    raise Failure(kinds[error.status_code], str(error.detail))
