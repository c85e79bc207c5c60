"""A client gets what its quota allows, is held for more, and refused when that is too late."""

import asyncio

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run

from service.admission import Admission
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from service.fair_queue import Caller
from service.gate import Gate
from service.metrics import Metrics
from service.problems import Failure
from service.quotas import Quota, Quotas
from service.registry import Registry
from service.settings import Settings
from service.sources import sources

RATE, BURST = 10.0, 100
KEYS = "small:sk-small tokens-per-second=0.01 burst-tokens=8\nother:sk-other\n"


def asked(asks, limits=None, metrics=None):
    """For each ask of (second, client, tokens, seconds allowed): the second at which it was let in,
    or the Retry-After of its refusal as a negative number."""

    async def all_of_them():
        quotas = Quotas(lambda: limits or {"a": Quota(RATE, BURST)}, metrics or Metrics())
        loop = asyncio.get_running_loop()

        async def one(at, client, tokens, allowed):
            await asyncio.sleep(at)
            try:
                async with quotas.spend(client, tokens, loop.time() + allowed) as bill:
                    bill.unused = 0
                    return loop.time()
            except Failure as failure:
                return -failure.retry_after_seconds

        return await asyncio.gather(*(one(*ask) for ask in asks))

    return run(all_of_them())


PATIENCE = st.sampled_from([0.0, 5.0, 500.0])
ASK = st.tuples(st.floats(0, 30), st.just("a"), st.integers(1, 3 * BURST), PATIENCE)
# At moments of their own: who is first of two at one moment is not said.
ASKS = st.lists(ASK, min_size=1, max_size=20, unique_by=lambda ask: ask[0])


@settings(max_examples=40)
@given(ASKS)
def test_no_stretch_of_time_has_more_than_its_burst_and_its_rate(asks):
    """But for one request that is larger than the burst, which enters when nothing is owed."""
    seen = asked(asks)
    spent = sorted((at, tokens) for at, (*_, tokens, _) in zip(seen, asks, strict=True) if at >= 0)
    for first, (begin, _) in enumerate(spent):
        total = 0
        for at, tokens in spent[first:]:
            assert total + min(tokens, BURST) <= BURST + RATE * (at - begin) + 2e-5
            total += tokens


@settings(max_examples=40)
@given(ASKS)
def test_who_is_told_to_come_again_is_let_in_then(asks):
    seen = asked(asks)
    for place in [i for i, at in enumerate(seen) if at < 0][:2]:
        at, client, tokens, allowed = asks[place]
        earlier = [ask for ask in asks if ask[0] < at]
        again = asked([*earlier, (at - seen[place], client, tokens, allowed)])
        assert again[-1] >= 0


def test_within_the_quota_nobody_waits():
    assert asked([(0, "a", 60, 0), (0, "a", 40, 0), (5, "a", 50, 0)]) == [0, 0, 5]


def test_a_patient_caller_is_held_and_an_impatient_one_refused():
    metrics = Metrics()
    seen = asked([(0, "a", 100, 0), (1, "a", 100, 60), (1, "a", 10, 5)], metrics=metrics)
    # The second pays 90 tokens that are not there yet; the third comes after it.
    assert seen == [0, 10, -10]
    value = metrics.registry.get_sample_value
    assert value("plaudit_quota_rejections_total", {"client": "a"}) == 1
    assert value("plaudit_quota_wait_seconds_total", {"client": "a"}) == pytest.approx(9)


def test_clients_without_a_quota_and_other_clients_are_not_limited():
    seen = asked([(0, "a", 100, 0), (0, "b", 10**6, 0), (0, None, 10**6, 0), (0, "a", 10, 0)])
    assert seen == [0, 0, 0, -1]


def test_what_was_given_up_or_found_the_server_full_is_not_paid_for():
    async def story():
        quotas = Quotas(lambda: {"a": Quota(RATE, BURST)}, Metrics())
        end = asyncio.get_running_loop().time() + 1000
        with pytest.raises(Failure):
            async with quotas.spend("a", 100, end):
                raise Failure("overloaded", "no room")
        async with quotas.spend("a", 100, end) as bill:
            bill.unused = 0

        async def waits():
            async with quotas.spend("a", 50, end):
                pytest.fail("it has hung up")

        waiting = asyncio.create_task(waits())
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with quotas.spend("a", 10, end):  # a second's worth has come back
            return asyncio.get_running_loop().time()

    assert run(story()) == 1


def test_through_the_gate_what_was_submitted_is_paid_for():
    """Not what was found meanwhile, nor what was given up while it was held."""

    async def story():
        metrics = Metrics()
        gate = Gate(
            Quotas(lambda: {"a": Quota(RATE, BURST)}, metrics), Admission(1, metrics, 2 * BURST)
        )
        loop = asyncio.get_running_loop()
        caller, end = Caller("train", "a"), loop.time() + 1000

        async def ask(tokens, *submitted):
            async with gate.admit(caller, tokens, end) as place:
                for size, done in submitted:
                    place.use(size, done)
                await asyncio.gather(*(done for _, done in submitted))
                return loop.time(), place.was_held

        done = loop.create_future()
        first = asyncio.create_task(ask(100, (60, done)))
        await asyncio.sleep(1)
        held = asyncio.create_task(ask(10))
        await asyncio.sleep(1)
        assert not held.done()  # not by the quota any more, but there is no room
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        done.set_result(None)
        assert await first == (2, False)
        # Of the burst 40 are left, and 20 have come back.
        assert await ask(60, (60, done)) == (2, False)
        return await ask(10, (10, done))

    assert run(story()) == (3, True)


@pytest.mark.parametrize("quota", [(0, 1), (-1.0, 1), (float("inf"), 1), (1.0, -1)])
def test_a_quota_that_is_none_is_refused(quota):
    with pytest.raises(ValueError, match="is no quota"):
        Quota(*quota)


async def test_over_http_it_is_429_and_cached_items_are_free(metrics, tiny_checkpoint, tmp_path):
    (tmp_path / "keys").write_text(KEYS)
    settings = Settings(
        models=[tiny_checkpoint], dtype="float32", device="cpu", api_keys_file=tmp_path / "keys",
        _cli_parse_args=False,
    )  # fmt: skip
    registry = await Registry.open(TorchEngine(settings, metrics), sources(settings), metrics)
    app = create_app(settings, registry, metrics, settings.keys())
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):

        async def ask(first, path="/score", key="sk-small", body=None):
            headers = {"Authorization": f"Bearer {key}", "X-Request-Deadline-Ms": "30000"}
            ids = [first, 5, 6, 7, 8, 9]
            return await http.post(
                path, json=body or {"items": [{"token_ids": ids}]}, headers=headers
            )

        assert (await ask(10)).status_code == 200
        refused = await ask(11)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"].endswith("#quota")
        assert refused.json()["retryable"] is True
        assert 300 <= int(refused.headers["retry-after"]) <= 400  # four tokens
        assert (await ask(10)).status_code == 200  # cached
        assert (await ask(11, key="sk-other")).status_code == 200
        peer = await ask(0, "/get_reward", body={"query": ["Eight minutes in boiling water."]})
        assert peer.status_code == 429
