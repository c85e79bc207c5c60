"""What a flood of hopeless requests changes, and what it does not, in the application as served."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest
import uvicorn
from asgi_caller import Caller as Asgi

from service import unread
from service.admin import answering
from service.fair_queue import Caller
from service.serve import listener

BATCH = 256
FAR, PATIENCE_SECONDS = 3600.0, 60.0
KEEP_ALIVE_SECONDS, RECEIVE_SECONDS = 1.0, 2.0
TRAINER, READER = {"authorization": "Bearer right"}, {"authorization": "Bearer looks"}
HOPELESS = {**TRAINER, "x-request-deadline-ms": "1"}


@pytest.fixture
def flooded(serve, tiny_checkpoint, tmp_path, monkeypatch):
    """``async with flooded() as app``: its house is full and of known pace, it holds a request of
    the trainer, and of the trainer's hopeless requests none is read any more."""
    monkeypatch.setattr(unread, "READ_PER_SECOND", 1e-6)
    monkeypatch.setattr(unread, "READ_AT_ONCE", 2)
    keys = tmp_path / "keys"
    keys.write_text("trainer:right scope=score\nprometheus:looks scope=metrics\n")
    settings = {
        "models": [tiny_checkpoint], "api_keys_file": keys,
        "max_batch_tokens": BATCH, "deadline_seconds": FAR,
    }  # fmt: skip

    @asynccontextmanager
    async def story():
        async with serve(**settings) as client, long_line(client._transport.app) as app:
            while (await Asgi(app)("POST", "/score", **HOPELESS))[0] != 503:
                pass
            yield app

    return story


@asynccontextmanager
async def long_line(app):
    admission, loop = app.state.scorer._gate._admission, asyncio.get_running_loop()
    whole = admission.admit(Caller("train", "trainer"), 1000 * BATCH, loop.time() + FAR)
    async with whole as place:
        while not admission._can_judge():
            done = loop.create_future()
            place.use(BATCH, done)
            await asyncio.sleep(0.1)
            done.set_result(None)
            await asyncio.sleep(0)
        held = asyncio.create_task(hold(admission, loop.time() + FAR))
        while not admission.oldest_age():
            await asyncio.sleep(0)
        try:
            yield app
        finally:
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)


async def hold(admission, deadline):
    async with admission.admit(Caller("train", "trainer"), 1000 * BATCH, deadline):
        pytest.fail("there was room")


TELLING = ("/models", "/v1/models", "/info", "/v2/models/m0", "/v2/models/m0/config")
STATUSES = [
    *((503, "POST", path, HOPELESS) for path in ("/score", "/ensemble_score", "/get_reward")),
    (503, "POST", "/v2/models/m0/infer", HOPELESS),
    *((200, "GET", path, HOPELESS) for path in ("/livez", "/readyz", "/models", "/v1/models")),
    *((405, "POST", path, HOPELESS) for path in ("/livez", *TELLING)),
    (405, "GET", "/score", HOPELESS),
    (404, "POST", "/nothing", HOPELESS),
    (401, "POST", "/score", {"x-request-deadline-ms": "1"}),
    (403, "POST", "/score", HOPELESS | READER),
    (422, "POST", "/score", HOPELESS | {"x-request-deadline-ms": "soon"}),
    (422, "POST", "/score", HOPELESS | {"x-priority": "offline"}),  # read, and it is {}
    (422, "POST", "/score", TRAINER),  # may be in time
]  # fmt: skip


async def test_nothing_else_is_answered_otherwise(flooded):
    async with flooded() as app:
        ask = Asgi(app)
        found = [((await ask(how, path, **said))[0], how, path) for _, how, path, said in STATUSES]
    assert found == [wanted[:3] for wanted in STATUSES]


async def test_each_refusal_is_counted_once(flooded, metrics):
    def counted():
        value = metrics.registry.get_sample_value
        route = {"route": "/score"}
        return [
            value("plaudit_http_requests_total", {**route, "method": "POST", "code": "503"}),
            value("plaudit_errors_total", {**route, "type": "overloaded"}),
            value("plaudit_admission_rejections_total", {"reason": "queue-full"}),
        ]

    async with flooded() as app:
        before = counted()
        await Asgi(app)("POST", "/score", **HOPELESS)
        assert counted() == [count + 1 for count in before]


@asynccontextmanager
async def connection(app):
    """To the application behind a server that closes what is idle after KEEP_ALIVE_SECONDS."""
    config = listener(app, "127.0.0.1", 0, RECEIVE_SECONDS)
    config.timeout_keep_alive, config.lifespan = KEEP_ALIVE_SECONDS, "off"
    at = socket.create_server(("127.0.0.1", 0))
    port = at.getsockname()[1]
    async with answering(uvicorn.Server(config), [at]), asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()


def head(**more):
    said = {"host": "x", **HOPELESS, **more}
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"POST /score HTTP/1.1\r\n{lines}\r\n".encode()


async def answer(reader):
    """Status and problem."""
    found = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(found.partition("content-length: ")[2].split("\r\n")[0])
    return int(found.split()[1]), json.loads(await reader.readexactly(length))


async def test_what_comes_after_a_refused_body_is_answered_and_the_idle_connection_closed(flooded):
    async with flooded() as app, connection(app) as (reader, writer):
        for _ in range(2):
            writer.write(head(**{"content-length": "2"}))
            assert (await answer(reader))[0] == 503
            writer.write(b"{}")
        assert await reader.read() == b""  # it does not stay open


async def test_the_rest_of_a_body_with_a_part_of_the_next_head_holds_no_connection(flooded):
    async with flooded() as app, connection(app) as (reader, writer):
        writer.write(head(**{"content-length": "2"}))
        assert (await answer(reader))[0] == 503
        writer.write(b"{}" + head()[:30])
        assert b" 408 " in await reader.read()


LONG = unread.MOST_UNREAD_BYTES + 1


@pytest.mark.parametrize(
    ("more", "body"),
    [
        ({"content-length": str(LONG)}, b"[" * LONG),
        ({"transfer-encoding": "chunked"}, b"1\r\n[\r\n0\r\n\r\n"),
    ],
)
async def test_a_long_body_and_one_in_chunks_is_read(flooded, more, body):
    async with flooded() as app, connection(app) as (reader, writer):
        writer.write(head(**more) + body)
        status, problem = await answer(reader)
        assert (status, problem["type"].rpartition("#")[2]) == (422, "malformed")
