"""What ``plaudit serve`` says at its start: addresses that can be opened, and what is so."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from service import listening
from service.banner import banner
from service.engines.torch_engine import TorchEngine
from service.listening import Place
from service.redis_connection import trouble
from service.registry import Registry
from service.settings import Settings
from service.sources import sources
from training.service_process import free_port

# Longer than any test waits, so that a busy machine fails none.
PATIENT = ("--redis-timeout-ms", "60000")


@pytest.fixture
def plain(tmp_path, save_plain, tokenizer):
    """A reward model of another tool."""
    return save_plain(tmp_path / "of-another-tool", tokenizer, seed=1)


@contextmanager
def started(model, *flags, **variables) -> Iterator[str]:
    """What a real server said up to its curl line, while it serves."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    process = subprocess.Popen(
        [sys.executable, "-m", "plaudit.cli", "serve", str(model), "--device", "cpu", *flags],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        said = ""
        while "  curl -s" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        yield said
    finally:
        process.kill()
        process.communicate()


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no address ::1")


@needs_ipv6
def test_an_address_of_ipv6_and_a_port_of_the_system_can_be_copied_from_the_start(plain):
    redis = f"redis://127.0.0.1:{free_port()}/0"  # where none is
    with started(plain, "--host", "::1", "--port", "0", "--redis-url", redis, *PATIENT) as said:
        (url,) = re.findall(r"^Plaudit at (\S+)", said, re.MULTILINE)
        assert re.fullmatch(r"http://\[::1\]:[1-9]\d*", url)
        command = said[said.index("  curl -s") :].strip()
        assert command.startswith(f"curl -s '{url}/score' ")
        answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert '"rewards":[' in answer.stdout
    assert "memory, and Redis once it answers: no PONG within 60000 ms (ConnectionError)" in said
    [line] = [line for line in said.splitlines() if line.startswith("  plain ")]
    assert line.endswith("without probes and calibration: not verified, its rewards are its scores")


def test_a_wildcard_is_said_by_an_address_that_can_be_called(tiny_checkpoint, redis_server):
    flags = ("--host", "0.0.0.0", "--port", "0", "--redis-url", redis_server.url, *PATIENT)
    secrets = {"PLAUDIT_API_KEYS": "k" * 32, "PLAUDIT_CACHE_SECRET": "s" * 32}
    with started(tiny_checkpoint, *flags, **secrets) as said:
        (url,) = re.findall(r"^Plaudit at (\S+)", said, re.MULTILINE)
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", url)
        assert httpx2.get(f"{url}/livez", timeout=120).status_code == 200
    assert "0.0.0.0" not in said
    assert "on every IPv4 address of this machine\n" in said
    assert "  cache: memory and Redis; API key: required\n" in said


@pytest.mark.parametrize(
    ("host", "start", "every"),
    [
        ("127.0.0.1", "http://127.0.0.1:", ""),
        ("0.0.0.0", "http://127.0.0.1:", "IPv4"),
        pytest.param("::", "http://[::1]:", "IPv6", marks=needs_ipv6),
    ],
)
def test_a_place_is_what_sockets_are_bound_to(host, start, every):
    sockets = listening.bind(host, 0, "--")
    port = sockets[0].getsockname()[1]
    assert listening.place_of(sockets) == Place(f"{start}{port}", every)
    for one in sockets:
        one.close()


async def test_the_admin_port_is_said_where_it_is(tiny_checkpoint, metrics):
    settings = Settings(
        models=[tiny_checkpoint], admin_port=9000, device="cpu", dtype="float32",
        _cli_parse_args=False,
    )  # fmt: skip
    registry = await Registry.open(TorchEngine(settings, metrics), sources(settings), metrics)
    await registry.engine.close()
    main, beside = Place("http://127.0.0.1:8000"), Place("http://[::1]:9000", "IPv6")
    said = banner(settings, registry, main, beside, "memory")
    at = "http://[::1]:9000"
    assert f"  admin: {at}/ops, {at}/metrics, {at}/readyz, on every IPv6 address of" in said
    assert "probes" not in said


async def test_a_redis_that_answers_is_no_trouble(redis_server):
    assert await trouble(redis_server.url, 60) is None
    redis_server.client().acl_setuser("default", enabled=True, commands=["-ping"])
    assert await trouble(redis_server.url, 60) is None  # it forbids this, and lives


async def test_a_redis_that_refuses_is_lost_or_silent_is_trouble(redis_server):
    redis_server.client().config_set("requirepass", "a password")
    assert await trouble(redis_server.url, 60) == "AuthenticationError"
    redis_server.kill()
    assert await trouble(redis_server.url, 60) == "ConnectionError"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert await trouble(f"redis://127.0.0.1:{port}/0", 0.05) == "TimeoutError"


async def test_what_speaks_another_protocol_is_trouble():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        asked = asyncio.get_running_loop().run_in_executor(None, answer)
        assert await trouble(f"redis://127.0.0.1:{port}/0", 60) is not None
        await asked
