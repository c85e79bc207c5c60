"""The score cache on a real redis-server: right, absent, lying or killed in the middle."""

import asyncio
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.breaker import Breaker
from service.cache import (
    BATCH,
    CONNECTIONS,
    KEY_PREFIX,
    MemoryCache,
    RedisCache,
    TieredCache,
    key_of,
)
from service.metrics import Metrics

KEYS = [bytes([i]) * 32 for i in range(4)]


def lookups(metrics: Metrics, tier: str, result: str) -> float:
    labels = {"tier": tier, "result": result}
    return metrics.registry.get_sample_value("plaudit_cache_lookups_total", labels) or 0.0


@pytest.fixture
async def redis_cache(redis_server, metrics):
    cache = RedisCache(redis_server.url, metrics, timeout_seconds=60.0, ttl_seconds=60, secret="s3")
    yield cache
    await cache.close()


async def test_redis_gives_back_what_was_put(redis_cache, metrics):
    await redis_cache.put({KEYS[0]: 1.5, KEYS[1]: -0.25})
    assert await redis_cache.get(KEYS[:3]) == {KEYS[0]: 1.5, KEYS[1]: -0.25}
    assert (lookups(metrics, "redis", "hit"), lookups(metrics, "redis", "miss")) == (2, 1)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lambda v: v[:-1], id="truncated"),
        pytest.param(lambda v: bytes([v[0] ^ 1]) + v[1:], id="other layout"),
        pytest.param(lambda v: v[:5] + bytes([v[5] ^ 1]) + v[6:], id="flipped bit of the score"),
        pytest.param(lambda v: b"", id="empty"),
        pytest.param(lambda v: pickle.dumps(1.0), id="pickle"),
        pytest.param(lambda v: b"x" * 1_000_000, id="large"),
    ],
)
async def test_a_corrupt_value_is_a_miss_and_counted(redis_cache, redis_server, metrics, lie):
    await redis_cache.put({KEYS[0]: 1.5})
    with redis_server.client() as redis:
        redis.set(KEY_PREFIX + KEYS[0], lie(redis.get(KEY_PREFIX + KEYS[0])))
    assert await redis_cache.get(KEYS[:1]) == {}
    assert lookups(metrics, "redis", "corrupt") == 1


async def test_a_value_under_another_key_or_secret_is_a_miss(redis_cache, redis_server, metrics):
    await redis_cache.put({KEYS[0]: 1.5})
    with redis_server.client() as redis:
        redis.set(KEY_PREFIX + KEYS[1], redis.get(KEY_PREFIX + KEYS[0]))
    stranger = RedisCache(
        redis_server.url, metrics, timeout_seconds=2.0, ttl_seconds=60, secret="other"
    )
    assert await redis_cache.get(KEYS[1:2]) == {}
    assert await stranger.get(KEYS[:1]) == {}
    await stranger.close()


async def test_a_lost_redis_is_a_miss_and_then_left_alone(redis_cache, redis_server, metrics):
    await redis_cache.put({KEYS[0]: 1.5})
    redis_server.kill()
    for _ in range(5):
        assert await redis_cache.get(KEYS[:1]) == {}
        await redis_cache.put({KEYS[1]: 1.0})
    assert lookups(metrics, "redis", "error") == 5
    assert metrics.registry.get_sample_value("plaudit_cache_breaker_state") == 1
    redis_server.start()


def test_the_breaker_opens_rests_and_closes():
    now = [0.0]
    breaker = Breaker(failures=2, rest_seconds=10, clock=lambda: now[0])
    breaker.record(succeeded=False)
    assert not breaker.open
    breaker.record(succeeded=False)
    assert breaker.open
    now[0] = 10.0
    assert not breaker.open
    breaker.record(succeeded=False)
    assert breaker.open
    now[0] = 20.0
    breaker.record(succeeded=True)
    assert not breaker.open


def test_after_a_rest_one_may_try_and_the_others_keep_away_until_it_is_known():
    now = [0.0]
    breaker = Breaker(failures=1, rest_seconds=10, clock=lambda: now[0])
    breaker.record(succeeded=False)
    assert not breaker.admits()
    now[0] = 10.0
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.record(succeeded=True)
    assert [breaker.admits() for _ in range(3)] == [True, True, True]


def test_a_try_that_is_given_up_is_followed_by_another():
    now = [0.0]
    breaker = Breaker(failures=1, rest_seconds=10, clock=lambda: now[0])
    breaker.record(succeeded=False)
    now[0] = 10.0
    assert breaker.admits()  # and its caller hangs up
    now[0] = 20.0
    assert breaker.admits()


async def test_many_lookups_at_once_share_connections_and_all_find(redis_cache, redis_server):
    await redis_cache.put({key: 1.0 for key in KEYS})
    many = await asyncio.gather(*(redis_cache.get(KEYS) for _ in range(300)))
    assert all(len(found) == len(KEYS) for found in many)
    with redis_server.client() as redis:
        assert len(redis.client_list()) <= CONNECTIONS + 1


async def test_very_many_scores_are_kept_in_time_and_found(redis_server, metrics):
    """More at once than one time-out is for: it is for each batch."""
    cache = RedisCache(redis_server.url, metrics, timeout_seconds=60.0, ttl_seconds=60, secret="s")
    scores = {f"{i:045d}".encode(): i / 8 for i in range(2 * BATCH + 1)}
    await cache.put(scores)
    assert await cache.get([*scores]) == scores
    count = "plaudit_cache_op_duration_seconds_count"
    assert metrics.registry.get_sample_value(count, {"op": "mget"}) == 3
    await cache.close()


async def test_a_full_redis_is_read_and_what_it_refuses_is_counted(
    redis_cache, redis_server, metrics
):
    await redis_cache.put({KEYS[0]: 1.5})
    with redis_server.client() as redis:
        redis.config_set("maxmemory", "1")
    for _ in range(5):
        await redis_cache.put({KEYS[1]: 1.0, KEYS[2]: 1.0})
        assert await redis_cache.get(KEYS[:2]) == {KEYS[0]: 1.5}
    stores = [
        metrics.registry.get_sample_value("plaudit_cache_stores_total", {"result": result})
        for result in ("stored", "error")
    ]
    assert stores == [1, 10]
    assert metrics.registry.get_sample_value("plaudit_cache_breaker_state") == 0


async def test_what_fails_is_said_once_and_without_the_password(redis_server, metrics, caplog):
    port = redis_server.port
    with redis_server.client() as redis:
        redis.config_set("requirepass", "another")
    url = f"redis://:hush@127.0.0.1:{port}/0"
    cache = RedisCache(url, metrics, timeout_seconds=30, ttl_seconds=60, secret="s")
    for _ in range(3):
        assert await cache.get(KEYS) == {}
    await cache.close()
    fails, alone = [record for record in caplog.records if record.name == "plaudit"]
    assert (fails.message, alone.message) == ("redis fails", "redis left alone")
    assert fails.fields["error"] == "AuthenticationError"
    assert fails.fields["redis"] == f"redis://***@127.0.0.1:{port}/0"
    assert "hush" not in str([record.__dict__ for record in caplog.records])


async def test_memory_forgets_the_least_recently_used(metrics):
    memory = MemoryCache(entries=2, metrics=metrics)
    await memory.put({KEYS[0]: 0.0, KEYS[1]: 1.0})
    await memory.get([KEYS[0]])
    await memory.put({KEYS[2]: 2.0})
    assert await memory.get(KEYS) == {KEYS[0]: 0.0, KEYS[2]: 2.0}


async def test_what_redis_knew_is_kept_in_memory(redis_cache, metrics):
    await redis_cache.put({KEYS[0]: 1.5})
    tiered = TieredCache(MemoryCache(10, metrics), redis_cache)
    assert tiered.held(KEYS[:1]) == {}
    assert await tiered.get(KEYS[:1]) == await tiered.get(KEYS[:1]) == {KEYS[0]: 1.5}
    assert tiered.held(KEYS[:1]) == {KEYS[0]: 1.5}
    assert lookups(metrics, "redis", "hit") == 1


@given(
    st.lists(st.tuples(st.text(), st.text(), st.lists(st.integers(0, 2**32 - 1))), unique_by=str)
)
def test_distinct_work_has_distinct_keys(requests):
    assert len({key_of(*request) for request in requests}) == len(requests)


async def test_no_request_fails_while_redis_dies_and_comes_back(
    serve, tiny_checkpoint, redis_server, metrics
):
    async def ask(client, i):
        items = [{"prompt": f"Question {i % 20}", "response": f"Answer {i}"}]
        response = await client.post("/score", json={"items": items})
        assert response.status_code == 200
        return response.json()["items"][0]["score"]

    settings = {
        "models": [tiny_checkpoint],
        "redis_url": redis_server.url,
        "redis_timeout_ms": 2000,
        "cache_megabytes": 0,  # every lookup needs Redis
    }
    async with serve(**settings) as client:
        before = await asyncio.gather(*(ask(client, i) for i in range(40)))
        running = [asyncio.ensure_future(ask(client, i)) for i in range(80)]
        redis_server.kill()
        during = await asyncio.gather(*running, *(ask(client, i) for i in range(40)))
        hits = lookups(metrics, "redis", "hit")
        redis_server.start()
        async with asyncio.timeout(30):
            while lookups(metrics, "redis", "hit") == hits:
                after = await asyncio.gather(*(ask(client, i) for i in range(40)))
    assert during[:40] == pytest.approx(before, abs=1e-5)
    assert during[80:] == pytest.approx(before, abs=1e-5)
    assert after == pytest.approx(before, abs=1e-5)
    assert lookups(metrics, "redis", "error") > 0
