"""What signals ask of the server. That nothing is lost is in tests/chaos/test_restart.py."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn

from service import serve
from service.registry import Registry
from service.settings import Settings, load
from service.stopping import Stopping, delay_seconds
from service.timings import FORGET_SECONDS
from training.service_process import free_port


@pytest.fixture
def server() -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config("none:none"))


@pytest.mark.parametrize(
    ("host", "given", "seconds"),
    [("127.0.0.1", None, 0), ("0.0.0.0", None, FORGET_SECONDS), ("127.0.0.1", 3.0, 3.0)],
)
def test_only_who_may_have_a_load_balancer_waits_for_it(
    host: str, given: float | None, seconds: float
) -> None:
    settings = Settings(host=host, drain_delay_seconds=given, _cli_parse_args=False)
    assert delay_seconds(settings) == seconds


async def test_sigterm_is_said_at_once_and_the_port_closes_later(server: uvicorn.Server) -> None:
    stopping = Stopping(server, 600.0)
    assert not stopping.begun()
    stopping.hear(signal.SIGTERM)
    assert stopping.begun()
    assert not server.should_exit
    assert (b"connection", b"close") in server.server_state.default_headers


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_delay(
    server: uvicorn.Server, second: signal.Signals
) -> None:
    stopping = Stopping(server, 600.0)
    stopping.hear(signal.SIGTERM)
    stopping.hear(second)
    assert server.should_exit
    assert not server.force_exit


async def test_sigint_closes_at_once_and_a_second_one_waits_for_nobody(
    server: uvicorn.Server,
) -> None:
    stopping = Stopping(server, 600.0)
    stopping.hear(signal.SIGINT)
    assert (server.should_exit, server.force_exit) == (True, False)
    stopping.hear(signal.SIGINT)
    assert server.force_exit


@pytest.mark.parametrize("third", [signal.SIGTERM, signal.SIGINT])
async def test_no_third_signal_takes_back_that_nobody_is_waited_for(
    server: uvicorn.Server, third: signal.Signals
) -> None:
    stopping = Stopping(server, 600.0)
    for number in (signal.SIGINT, signal.SIGINT, third):
        stopping.hear(number)
    assert server.force_exit


async def test_sigterm_while_nobody_serves_yet_ends_the_engine(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models are loaded, and the admin port of the start is about to close."""
    closed = list[bool]()

    class Engine:
        async def close(self) -> None:
            closed.append(True)

    @asynccontextmanager
    async def probed(*_: object) -> AsyncIterator[None]:
        yield
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    async def opened(*_: object) -> SimpleNamespace:
        return SimpleNamespace(engine=Engine())

    monkeypatch.setattr(serve, "probed", probed)
    monkeypatch.setattr(Registry, "open", opened)
    settings = load([str(tiny_checkpoint), "--port", str(free_port())], {})
    serving = asyncio.create_task(serve.serve(settings))
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(60):
            await serving
    assert closed == [True]
