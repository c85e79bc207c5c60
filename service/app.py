"""The application: routes around the scorer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from plaudit.version import VERSION
from plaudit.wire import EnsembleRequest, EnsembleResponse, ScoreRequest, ScoreResponse
from service import heartbeat, openapi, watchdog
from service.admission import Admission
from service.bodies import Bodies
from service.cache import Cache, MemoryCache, RedisCache, TieredCache
from service.canary import Canary
from service.compat import peers
from service.compat.exchange import Exchange
from service.edge import Edge, http_failure
from service.entrance import Entrance, free_on_main, networks
from service.fair_queue import Caller
from service.gate import Gate
from service.hang_up import unless_gone
from service.health import Health
from service.keys import Keys
from service.logs import log
from service.member_scores import MemberScores
from service.metrics import Metrics
from service.model_list import add_models
from service.probe_routes import add_metrics, add_probes
from service.quotas import Quotas
from service.registry import Registry
from service.repeats import Repeats
from service.request_headers import caller_of, deadline_seconds
from service.routes import METRICS, OWN, Routes
from service.scorer import Scorer
from service.settings import Settings
from service.ui.api_docs import add_api_docs
from service.ui.playground import add_playground
from service.unread import Unread

R = TypeVar("R", ScoreRequest, EnsembleRequest)
# Of a score in memory and of the item that it belongs to.
ENTRY_BYTES = 500


def create_app(
    settings: Settings, registry: Registry, metrics: Metrics, keys: Keys | None = None
) -> FastAPI:
    """The application over a loaded registry. ``keys`` are those of the settings, for whoever may
    replace them later."""
    keys = settings.keys() if keys is None else keys
    redis = redis_of(settings, metrics)
    entries = int(settings.cache_megabytes * 1e6 / ENTRY_BYTES)
    memory = MemoryCache(entries, metrics)
    cache: Cache = memory if redis is None else TieredCache(memory, redis)
    member_scores = MemberScores(cache, metrics)
    admission = Admission(settings.max_queued_tokens, metrics, settings.max_batch_tokens)
    scorer = Scorer(
        registry,
        member_scores,
        Repeats(entries),
        Gate(Quotas(lambda: keys.quotas, metrics), admission),
        metrics,
        settings.max_items,
    )

    canary = Canary(
        [*registry.members.values()],
        registry.engine.dtype,
        member_scores.computed_at,
        metrics,
        settings.canary_seconds,
    )
    health = Health(registry, canary, metrics)
    health.tokenizing_seconds = scorer.tokenizing_seconds

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = running(watchdog.watch(partial(health.hopeless, settings.hang_seconds)))
        async with running(canary.run()), running(heartbeat.beat(metrics)), watching:
            yield
        for close in app.state.before_engine:
            await close()
        await registry.engine.close()
        if redis is not None:
            await redis.close()
        await asyncio.to_thread(metrics.traces.close)  # a collector may be slow

    app = FastAPI(
        title="Plaudit", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_exception_handler(HTTPException, http_failure)
    admin = settings.admin_port is not None
    app.state.instead = partial(instead, settings.admin_port)
    routes = Routes([*(own for own in OWN if not admin or own != METRICS), *peers.ROUTES])
    free = partial(free_on_main, keys, settings.open_metrics and not admin)
    entrance = Entrance(keys, networks(settings.trusted_networks), routes, free)
    unread = Unread(admission, settings.deadline_seconds)
    app.add_middleware(Edge, routes=routes, entrance=entrance, metrics=metrics, unread=unread)
    bodies = Bodies(int(settings.max_body_megabytes * 1e6), metrics)
    add_scoring(app, scorer, bodies, settings, metrics)
    peers.add(app, Exchange(scorer, bodies, settings, metrics))
    add_models(app, registry, "/models")
    add_probes(app, health)
    if not admin:
        add_metrics(app, metrics)
    app.state.health, app.state.canary, app.state.keys = health, canary, keys
    app.state.scorer = scorer
    app.state.before_engine = []  # what still gives it work, and is to end first
    add_api_docs(app, settings.playground)
    if settings.playground:
        add_playground(app)
    openapi.describe(app, peers.ROUTES)
    return app


def instead(admin_port: int | None, path: str) -> str | None:
    """What a 404 says of a path that another port has, or could have."""
    if path not in ("/metrics", "/ops"):
        return None
    if admin_port is None:
        return f"{path} is on the admin port: plaudit serve --admin-port 9090"
    return f"{path} is on the admin port, {admin_port}"


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


def add_scoring(
    app: FastAPI, scorer: Scorer, bodies: Bodies, settings: Settings, metrics: Metrics
) -> None:
    score_decoder = msgspec.json.Decoder(ScoreRequest)
    ensemble_decoder = msgspec.json.Decoder(EnsembleRequest)
    encoder = msgspec.json.Encoder()

    async def answer(
        request: Request,
        decoder: "msgspec.json.Decoder[R]",
        use: Callable[[R, Caller, float], Coroutine[Any, Any, ScoreResponse | EnsembleResponse]],
    ) -> Response:
        seconds = deadline_seconds(request.headers, settings.deadline_seconds)
        caller = caller_of(request)
        decoded = await bodies.read(request, decoder)
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


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """``work`` runs beside the body, and ends with it."""
    task = asyncio.create_task(work)
    task.add_done_callback(say_if_dead)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def say_if_dead(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("a task beside the requests died", exc_info=error)
