"""What is hopeless when it comes is refused before its body is read."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from simulated_engine import BATCH, RATE, Server
from virtual_time import run

from service.edge import Edge
from service.entrance import Entrance
from service.fair_queue import Caller
from service.keys import ANONYMOUS, Keys
from service.problems import Failure
from service.routes import OWN, Routes
from service.unread import MOST_UNREAD_BYTES, READ_AT_ONCE, READ_PER_SECOND, Unread

LINE_SECONDS = 60.0


def asking(**more):
    return {"content-length": "300", **more}


def within(milliseconds):
    return asking(**{"x-request-deadline-ms": str(milliseconds)})


HOPELESS, PATIENT = within(2000), within(600_000)


@asynccontextmanager
async def long_line():
    """A server whose pace is known, and about a minute of work of one client."""
    server = Server()
    engine = asyncio.create_task(server.run())
    many = round(LINE_SECONDS * RATE / BATCH)
    held = [
        asyncio.create_task(server.ask(Caller("train", "greedy"), [BATCH // 4] * 4, 1000.0))
        for _ in range(many)
    ]
    await asyncio.sleep(4)
    try:
        yield server, Unread(server.admission, limit_seconds=1000.0)
    finally:
        for task in [engine, *held]:
            task.cancel()
        await asyncio.gather(engine, *held, return_exceptions=True)


def refused(unread, headers, client="greedy", times=1):
    """How many of so many requests that come at once are."""
    kinds = Counter(outcome(unread, headers, client) for _ in range(times))
    assert kinds.keys() <= {"read", "overloaded"}
    return kinds["overloaded"]


def outcome(unread, headers, client):
    try:
        unread.refuse(headers, client)
    except Failure as failure:
        return failure.kind
    return "read"


def test_of_hopeless_requests_a_few_are_read_and_the_others_refused():
    async def story():
        async with long_line() as (_, unread):
            assert refused(unread, HOPELESS, times=READ_AT_ONCE + 500) == 500
            await asyncio.sleep(0.5)
            assert 500 - refused(unread, HOPELESS, times=500) == READ_PER_SECOND / 2

    run(story())


def test_what_may_be_in_time_is_read():
    async def story():
        async with long_line() as (_, unread):
            refused(unread, HOPELESS, times=READ_AT_ONCE)
            assert refused(unread, HOPELESS)
            assert not refused(unread, PATIENT, times=500)
            assert not refused(unread, asking(), times=500)  # the server's own limit is long
            # Clients take turns: another has nobody before it but what is being computed.
            assert not refused(unread, within(9000), client="modest")

    run(story())


def test_one_clients_flood_leaves_another_what_is_read():
    async def story():
        async with long_line() as (_, unread):
            refused(unread, within(1), times=5000)
            assert not refused(unread, within(1), "modest", times=READ_AT_ONCE)
            assert refused(unread, within(1), "modest")
            urgent_less = within(1) | {"x-priority": "offline"}
            assert not refused(unread, urgent_less, times=READ_AT_ONCE)

    run(story())


def test_a_server_that_holds_nobody_back_reads_everything():
    """However short the deadlines are: the scores may be kept in memory."""

    async def story():
        async with long_line() as (server, unread):
            await until_none_is_held(server)
            few = asyncio.create_task(server.ask(Caller("train", "greedy"), [20], 1000.0))
            await asyncio.sleep(0)
            assert not refused(unread, within(1), times=10 * READ_AT_ONCE)
            await few

    run(story())


async def until_none_is_held(server):
    while server.admission.oldest_age():
        await asyncio.sleep(1)


LARGE = {"content-length": str(MOST_UNREAD_BYTES + 1)}


@pytest.mark.parametrize("length", [LARGE, {"transfer-encoding": "chunked"}, {}])
def test_a_body_that_may_be_long_on_its_way_is_read(length):
    async def story():
        async with long_line() as (_, unread):
            refused(unread, within(1), times=READ_AT_ONCE)
            assert refused(unread, within(1))
            hopeless = {"x-request-deadline-ms": "1", **length}
            assert not refused(unread, hopeless, times=READ_AT_ONCE)

    run(story())


def test_an_idle_server_reads_everything():
    async def story():
        assert not refused(Unread(Server().admission, 1000.0), within(1))

    run(story())


@pytest.mark.parametrize("headers", [{"x-request-deadline-ms": "soon"}, {"x-priority": "mine"}])
def test_a_header_that_cannot_be_read_is_malformed(headers):
    async def story():
        with pytest.raises(Failure) as caught:
            Unread(Server().admission, 1000.0).refuse(asking(**headers), "anybody")
        assert caught.value.kind == "malformed"

    run(story())


def test_nothing_of_a_refused_body_is_awaited():
    """The caller gets its problem, with the id of its request and when to come back."""
    sent = []

    async def send(message):
        sent.append(message)

    async def never(*_):
        pytest.fail("it was read, or came to the application")

    async def story():
        async with long_line() as (server, unread):
            routes = Routes(OWN)
            entrance = Entrance(Keys(), [], routes, lambda _: True)
            edge = Edge(never, routes, entrance, server.metrics, unread=unread)
            refused(unread, within(1), ANONYMOUS, times=READ_AT_ONCE)
            headers = [
                (b"content-length", b"300"),
                (b"x-request-deadline-ms", b"1"),
                (b"x-request-id", b"run-7"),
            ]
            asked = {"type": "http", "method": "POST", "path": "/score", "headers": headers}
            await edge(asked, never, send)

    run(story())
    start, body = sent
    assert start["status"] == 503
    assert {(b"x-request-id", b"run-7")} < set(start["headers"])
    assert b"retry-after" in dict(start["headers"])
    assert json.loads(body["body"])["type"].endswith("#overloaded")
