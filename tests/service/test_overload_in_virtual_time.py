"""More load than can be served, in virtual time: what is answered, how late, and to whom."""

import asyncio
import random
import statistics
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_engine import BATCH, RATE, Server, serve
from virtual_time import run

from service.fair_queue import Caller
from service.problems import Failure

SECONDS = 60.0
FORWARD = BATCH / RATE  # seconds of a full one


def poisson(rate):
    draw = random.Random(0)
    now = draw.expovariate(rate)
    while now < SECONDS:
        yield now
        now += draw.expovariate(rate)


def load(times, sizes, allowed, client="trainer", priority="train"):
    """Requests of ``times`` capacity."""
    rate = times * RATE / sum(sizes)
    return [(at, Caller(priority, client), sizes, allowed) for at in poisson(rate)]


def served(arrivals, server=None):
    async def all_of_them():
        return await serve(server or Server(), sorted(arrivals, key=lambda one: one[0]))

    return run(all_of_them())


def goodput(seen):
    """Tokens answered in time, of those that the engine could compute meanwhile."""
    return sum(one.tokens for one in seen if one.outcome == "ok" and one.ended < SECONDS) / (
        SECONDS * RATE
    )


def of(client, seen):
    return [one for one in seen if one.caller.client == client]


def median(client, seen):
    return statistics.median(one.seconds for one in of(client, seen))


@pytest.mark.parametrize("times", [2, 10])
@pytest.mark.parametrize(
    "sizes",
    [[100], [100] * 4, [250] * 8, [250] * 12],
    ids=["one", "four", "two forwards", "three forwards"],
)
def test_of_too_much_load_as_much_is_served_as_can_be(sizes, times):
    seen = served(load(times, sizes, allowed=12.0))
    assert goodput(seen) > 0.8
    # Whoever is refused is told so; next to nobody was let in and then came too late.
    late = sum(one.outcome == "deadline" for one in seen)
    assert late <= 0.02 * len(seen) + 2


def test_what_is_refused_was_not_computed():
    server = Server()
    seen = served(load(10, [200], allowed=8.0), server)
    good = sum(one.tokens for one in seen if one.outcome == "ok")
    late = sum(one.tokens for one in seen if one.outcome == "deadline")
    assert good <= server.computed <= good + late


def test_a_storm_of_hang_ups_teaches_no_pace():
    """What was given up was not computed, so the engine is no faster than before."""

    async def story():
        server = Server()
        engine = asyncio.create_task(server.run())
        patient = Caller("train", "patient")
        staying = [asyncio.create_task(server.ask(patient, [250] * 40, 1000.0)) for _ in range(2)]
        for _ in range(500):
            fleeting = asyncio.create_task(server.ask(Caller("train", "storm"), [200], 1000.0))
            await asyncio.sleep(0.01)
            fleeting.cancel()
        new = (server.ask(Caller("train", "new"), [200], 5.0) for _ in range(100))
        seen = await asyncio.gather(*new)
        await asyncio.gather(*staying)
        engine.cancel()
        return seen

    outcomes = Counter(one.outcome for one in run(story()))
    assert outcomes["ok"]
    assert outcomes["deadline"] == 0


def test_before_it_is_prepared_a_request_is_refused_for_what_is_before_it_only():
    """Its own tokens may be in the cache."""

    async def story():
        server = Server()
        engine = asyncio.create_task(server.run())
        patient = Caller("train", "patient")
        staying = [asyncio.create_task(server.ask(patient, [250] * 40, 1000.0)) for _ in range(3)]
        await asyncio.sleep(3)
        soon = asyncio.get_running_loop().time() + 8
        with server.admission.coming(Caller("train", "new"), 10**6, soon):
            pass
        with pytest.raises(Failure), server.admission.coming(patient, 10_000, soon):
            pass
        await asyncio.gather(*staying)
        engine.cancel()

    run(story())


@pytest.mark.parametrize("sizes", [[200], [250] * 16], ids=["small", "large"])
def test_a_modest_client_hardly_feels_a_greedy_one(sizes):
    """It waits for the forward that is under way and for its own, which now is a full one."""
    modest = load(0.1, [200], 30.0, "modest")
    beside = served(load(10, sizes, 30.0, "greedy") + modest)
    assert {one.outcome for one in of("modest", beside)} == {"ok"}
    assert median("modest", beside) < 2.5 * FORWARD
    assert goodput(beside) > 0.8


def test_training_is_not_held_behind_offline_work():
    training = load(0.3, [200], 8.0, "trainer")
    beside = served(load(10, [200], 8.0, "batch", "offline") + training)
    assert {one.outcome for one in of("trainer", beside)} == {"ok"}
    assert median("trainer", beside) < 2.5 * FORWARD
    assert goodput(beside) > 0.8


def test_clients_that_all_want_too_much_get_alike():
    """One has fifty requests under way where another has five."""
    both = served(load(10, [200], 8.0, "fifty") + load(2, [200], 8.0, "five"))
    shares = [sum(one.outcome == "ok" for one in of(name, both)) for name in ("fifty", "five")]
    assert max(shares) < 1.2 * min(shares)


def test_a_house_that_is_idle_refuses_nobody():
    """However long a request takes alone, and however slow the engine was before."""
    first = [(0.0, Caller("train", "a"), [250] * 40, 30.0)]
    later = [(20.0, Caller("train", "a"), [250] * 40, 5.0)]
    assert [one.outcome for one in served(first + later)] == ["ok", "deadline"]


def test_patience_has_an_end_where_memory_has():
    """More than may be held: the newest of the least urgent are told at once."""
    flood = [(0.0, Caller("offline", "batch"), [200], 1000.0) for _ in range(1200)]
    some = [(0.1, Caller("train", "trainer"), [200], 1000.0) for _ in range(20)]
    seen = served(flood + some, Server(max_tokens=10_000))
    assert {one.outcome for one in of("trainer", seen)} == {"ok"}
    at_once = [one for one in of("batch", seen) if one.outcome == "overloaded"]
    assert len(at_once) >= 150
    assert max(one.seconds for one in at_once) < 0.2


REQUESTS = st.lists(
    st.tuples(
        st.floats(0, 20),
        st.builds(Caller, st.sampled_from(["train", "eval", "offline"]), st.sampled_from("abc")),
        st.lists(st.integers(1, 1500), min_size=1, max_size=6),
        st.floats(0.01, 60),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60)
@given(REQUESTS, st.integers(1, 20_000))
def test_every_request_ends_in_time_and_the_house_is_empty_then(requests, max_tokens):
    server = Server(max_tokens)
    seen = served(requests, server)
    allowed = {id(caller): seconds for _, caller, _, seconds in requests}
    for one in seen:
        assert one.outcome in ("ok", "overloaded", "deadline")
        assert one.seconds <= allowed[id(one.caller)] + 1e-6
    assert server.metrics.registry.get_sample_value("plaudit_queue_tokens") == 0
    assert server.admission.oldest_age() == 0


@settings(max_examples=30)
@given(REQUESTS)
def test_with_patience_everybody_is_served(requests):
    seen = served([(at, caller, sizes, 10_000.0) for at, caller, sizes, _ in requests])
    assert {one.outcome for one in seen} == {"ok"}
