"""The HTTP side: routes, problems, metrics and logs around the scorer."""

import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plaudit.version import VERSION
from plaudit.wire import EnsembleRequest, EnsembleResponse, ModelList, ScoreRequest, ScoreResponse
from service import openapi
from service.admission import Admission
from service.cache import Cache, MemoryCache, RedisCache, TieredCache
from service.fair_queue import Caller
from service.hardening import (
    Keys,
    deadline_seconds,
    priority,
    read_body,
    request_id,
    unless_gone,
)
from service.logs import event, log
from service.member_scores import MemberScores
from service.metrics import Metrics
from service.problems import Failure, problem
from service.registry import Registry
from service.repeats import Repeats
from service.scorer import Scorer
from service.settings import Settings

T = TypeVar("T")
R = TypeVar("R", ScoreRequest, EnsembleRequest)
# nginx's status for a caller that hung up; it is only logged and counted.
CLIENT_CLOSED_REQUEST = 499
# Of a score in memory and of the item that it belongs to.
ENTRY_BYTES = 500
OPEN_ROUTES = frozenset({"/livez", "/readyz", "/metrics", "/openapi.json", "/docs"})
ROUTES = OPEN_ROUTES | {"/score", "/ensemble_score", "/models"}


def create_app(settings: Settings, registry: Registry, metrics: Metrics) -> FastAPI:
    """The application over a loaded registry."""
    redis = redis_of(settings, metrics)
    entries = int(settings.cache_megabytes * 1e6 / ENTRY_BYTES)
    memory = MemoryCache(entries, metrics)
    cache: Cache = memory if redis is None else TieredCache(memory, redis)
    scorer = Scorer(
        registry,
        MemberScores(cache, metrics),
        Repeats(entries),
        Admission(settings.max_queued_tokens, metrics),
        metrics,
        settings.max_items,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await registry.engine.close()
        if redis is not None:
            await redis.close()

    app = FastAPI(title="Plaudit", version=VERSION, lifespan=lifespan, redoc_url=None)
    metrics.build_info.labels(VERSION).set(1)
    app.add_exception_handler(HTTPException, http_failure)
    app.add_middleware(Edge, keys=Keys(settings.keys()), metrics=metrics)
    add_scoring(app, scorer, settings, metrics)
    add_operations(app, registry, metrics)
    openapi.describe(app)
    return app


def redis_of(settings: Settings, metrics: Metrics) -> RedisCache | None:
    if settings.redis_url is None:
        return None
    return RedisCache(
        settings.redis_url.get_secret_value(),
        metrics,
        timeout_seconds=settings.redis_timeout_ms / 1000,
        ttl_seconds=settings.cache_ttl_seconds,
        secret=settings.cache_secret.get_secret_value(),
    )


def add_scoring(app: FastAPI, scorer: Scorer, settings: Settings, metrics: Metrics) -> None:
    max_bytes = int(settings.max_body_megabytes * 1e6)
    score_decoder = msgspec.json.Decoder(ScoreRequest)
    ensemble_decoder = msgspec.json.Decoder(EnsembleRequest)
    encoder = msgspec.json.Encoder()

    async def answer(
        request: Request,
        decoder: "msgspec.json.Decoder[R]",
        use: Callable[[R, Caller, float], Coroutine[Any, Any, ScoreResponse | EnsembleResponse]],
    ) -> Response:
        seconds = deadline_seconds(request.headers, settings.deadline_seconds)
        caller = Caller(priority(request.headers))
        body = await read_body(request, max_bytes)
        with metrics.stage("decode"):
            decoded = decode(decoder, body)
        response = await unless_gone(request, use(decoded, caller, seconds))
        request.state.log = {
            "items": len(response.rewards),
            "tokens": response.usage.tokens,
            "cached": response.usage.cached,
            "failed": response.rewards.count(None),
        }
        with metrics.stage("encode"):
            return Response(encoder.encode(response), media_type="application/json")

    @app.post("/score")
    async def score(request: Request) -> Response:
        """Rewards of one model, or the weighted sums of a bundle, for items or groups."""
        return await answer(request, score_decoder, scorer.score)

    @app.post("/ensemble_score")
    async def ensemble_score(request: Request) -> Response:
        """Rewards of an ensemble, with mean, variance and every member's score."""
        return await answer(request, ensemble_decoder, scorer.ensemble_score)


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """The typed body. msgspec's messages name the place and the types; what they quote of the
    caller's own words is kept only where it can be a field's name."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Failure("malformed", QUOTED.sub(name_only, str(error))[:300]) from None


# Quotes that are not a path such as `$.items[0]`.
QUOTED = re.compile(r"`([^$`][^`]*)`|'([^']*)'", re.DOTALL)
FIELD = re.compile(r"[a-z_]{1,20}")


def name_only(quote: re.Match[str]) -> str:
    """A quote as it stands if it can be a field's name, else nothing of it."""
    words = quote[1] or quote[2] or ""
    return quote[0] if FIELD.fullmatch(words) else "(not shown)"


def add_operations(app: FastAPI, registry: Registry, metrics: Metrics) -> None:
    @app.get("/models")
    async def models() -> Response:
        """What is loaded, with revisions."""
        listed = ModelList(list(registry.infos()))
        return Response(msgspec.json.encode(listed), media_type="application/json")

    @app.get("/livez")
    async def livez() -> Response:
        """The event loop turns."""
        return Response(b'{"status":"alive"}', media_type="application/json")

    @app.get("/readyz")
    async def readyz() -> Response:
        """Models are loaded, their probes gave the stored scores, and the engine computes."""
        if not registry.engine.ready:
            raise Failure("not-ready", "the engine is being restarted", retry_after_seconds=5)
        return Response(b'{"status":"ready"}', media_type="application/json")

    @app.get("/metrics")
    async def metrics_text() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


class Edge:
    """Outermost ASGI layer: request id, key, problems, metrics and one log line per request."""

    def __init__(self, app: ASGIApp, keys: Keys, metrics: Metrics):
        self._app, self._keys, self._metrics = app, keys, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
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
            if scope["path"] not in OPEN_ROUTES:
                self._keys.check(request.headers.get("authorization"))
            await self._app(scope, receive, send_with_id)
        except Failure as failure:
            await self._fail(failure, instance, scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        except Exception:  # noqa: BLE001  the one place where an unforeseen failure is answered
            log.exception("internal", extra={"fields": {"instance": instance}})
            unforeseen = Failure("internal", "an unforeseen failure")
            await self._fail(unforeseen, instance, scope, receive, send_with_id)
        finally:
            self._record(scope, instance, status, time.perf_counter() - began)

    async def _fail(
        self, failure: Failure, instance: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._metrics.errors.labels(route_of(scope), failure.kind).inc()
        headers = {}
        if failure.retry_after_seconds is not None:
            headers["retry-after"] = str(failure.retry_after_seconds)
        response = Response(
            msgspec.json.encode(problem(failure, instance)),
            failure.status,
            headers,
            media_type="application/problem+json",
        )
        await response(scope, receive, send)

    def _record(self, scope: Scope, instance: str, status: int, seconds: float) -> None:
        route, method = route_of(scope), method_of(scope)
        self._metrics.http_requests.labels(route, method, str(status)).inc()
        self._metrics.http_seconds.labels(route, f"{status // 100}xx").observe(seconds)
        if route in ("/livez", "/readyz", "/metrics"):
            return
        fields = scope.get("state", {}).get("log", {})
        event(
            "request", instance=instance, route=route, method=method, status=status,
            milliseconds=round(seconds * 1000, 2), **fields,
        )  # fmt: skip


def route_of(scope: Scope) -> str:
    """The declared route, or "unknown": labels come from closed sets."""
    return scope["path"] if scope["path"] in ROUTES else "unknown"


def method_of(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"


async def http_failure(_: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, as problems."""
    assert isinstance(error, HTTPException)
    kinds = {404: "not-found", 405: "method-not-allowed"}
    if error.status_code not in kinds:
        raise error
    raise Failure(kinds[error.status_code], str(error.detail))
