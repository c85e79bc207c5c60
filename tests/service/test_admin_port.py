"""The admin port: another listener of the same loop, for those who run the service."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import uvicorn

from service import admin, listening
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from service.registry import Registry, sources
from service.routes import Routes
from service.serve import listener, main
from service.settings import Settings, SettingsError, load

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Both:
    """The service with its admin port, in the test's own loop, without signals."""

    def __init__(self, metrics, **settings):
        self._metrics = metrics
        self.settings = Settings(dtype="float32", device="cpu", _cli_parse_args=False, **settings)

    async def __aenter__(self):
        engine = TorchEngine(self.settings, self._metrics)
        registry = await Registry.open(engine, sources(self.settings), self._metrics)
        self.app = create_app(self.settings, registry, self._metrics)
        self.main = uvicorn.Server(listener(self.app, "127.0.0.1", 0))
        self.app.state.health.stopping = lambda: self.main.should_exit
        at = listening.bind("127.0.0.1", 0, "--")
        admin_at = listening.bind(self.settings.admin_host, self.settings.admin_port, "--admin-")
        beside = admin.create_admin(self.app.state.health, self._metrics, registry)
        self.admin = uvicorn.Server(listener(beside, "127.0.0.1", 0))
        self.serving = asyncio.create_task(admin.serve_both(self.main, at, self.admin, admin_at))
        async with asyncio.timeout(60):
            while not (self.main.started and self.admin.started):
                await asyncio.sleep(0.01)
        port = self.main.servers[0].sockets[0].getsockname()[1]
        self.client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}")
        url = f"http://127.0.0.1:{self.settings.admin_port}"
        self.ops = httpx2.AsyncClient(base_url=url)
        return self

    async def __aexit__(self, *_):
        self.main.should_exit = True
        await self.client.aclose()
        await self.serving
        await self.ops.aclose()


@pytest.fixture
def both(metrics, tiny_checkpoint):
    return Both(metrics, models=[tiny_checkpoint], admin_port=free_port(), api_keys="right")


async def test_metrics_leave_the_main_port_and_the_probes_are_on_both(both):
    async with both:
        statuses = {
            (where, path): (await client.get(path)).status_code
            for where, client in (("main", both.client), ("admin", both.ops))
            for path in ("/livez", "/readyz", "/metrics")
        }
        known = await both.client.get("/metrics", headers={"Authorization": "Bearer right"})
    assert statuses == {
        ("main", "/livez"): 200, ("main", "/readyz"): 200, ("main", "/metrics"): 401,
        ("admin", "/livez"): 200, ("admin", "/readyz"): 200, ("admin", "/metrics"): 200,
    }  # fmt: skip
    assert known.status_code == 404
    assert known.json()["detail"] == f"/metrics is on the admin port, {both.settings.admin_port}"


async def test_the_admin_ports_root_is_its_page_and_its_404_names_its_routes(both):
    async with both:
        root, lost = await both.ops.get("/"), await both.ops.get("/docs")
    assert (root.status_code, root.headers["location"]) == (307, "/ops")
    assert "/metrics" in lost.json()["detail"]


async def test_the_admin_port_scores_nothing_and_lists_nothing(both, metrics):
    async with both:
        for method, path in (
            ("POST", "/score"), ("GET", "/models"), ("GET", "/docs"), ("GET", "/openapi.json"),
            ("POST", "/get_reward"), ("GET", "/k/right/metrics"),
        ):  # fmt: skip
            answer = await both.ops.request(method, path, json={"items": []})
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
            assert "server" not in answer.headers
            assert answer.headers["x-request-id"]
        assert (await both.ops.post("/metrics")).status_code == 405
    labels = {"route": "unknown", "method": "POST", "code": "404"}
    assert metrics.registry.get_sample_value("plaudit_http_requests_total", labels) == 2


async def test_while_the_service_drains_the_admin_port_says_so_and_then_both_stop(both):
    async with both:
        gate = asyncio.Event()

        @both.app.get("/slow")
        async def slow():
            await gate.wait()
            return {}

        headers = {"Authorization": "Bearer right"}
        answering = asyncio.create_task(both.client.get("/slow", headers=headers, timeout=60))
        async with asyncio.timeout(60):
            while not both.main.server_state.tasks:
                await asyncio.sleep(0.01)
            both.main.should_exit = True
            answer = await both.ops.get("/readyz")
            assert (answer.status_code, answer.json()["detail"]) == (503, "the server is stopping")
            assert (await both.ops.get("/livez")).status_code == 200
            assert "plaudit_ready 0.0" in (await both.ops.get("/metrics")).text
            gate.set()
            assert (await answering).status_code == 200
            await both.serving
        assert not both.admin.servers[0].sockets


@pytest.mark.parametrize("flag", ["--port", "--admin-port"])
def test_a_port_that_is_taken_is_said_before_anything_is_loaded(tiny_checkpoint, capsys, flag):
    free = {"--port", "--admin-port"} - {flag}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(tiny_checkpoint), flag, str(port), *free, str(free_port())]) == 2
    said = capsys.readouterr().err
    assert f"{flag} {port}" in said
    assert "name a free port" in said
    assert "loading" not in said


def test_one_port_cannot_be_both(tiny_checkpoint):
    with pytest.raises(SettingsError, match="--admin-port 9001 is --port too"):
        load([str(tiny_checkpoint), "--port", "9001", "--admin-port", "9001"], {})


def test_the_routes_of_the_admin_port_are_open():
    assert {route.use for route in Routes(admin.ADMIN)._exact.values()} == {"open"}


def said(admin_port: int, gauge: str) -> float:
    text = httpx2.get(f"http://127.0.0.1:{admin_port}/metrics").text
    return float(re.search(rf"^{gauge} (.+)$", text, re.MULTILINE)[1])


def test_a_real_server_answers_what_it_accepted_and_ends_with_0_at_sigterm(tiny_checkpoint):
    port, admin_port = free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "plaudit.cli", "serve", str(tiny_checkpoint), "--device", "cpu",
         "--port", str(port), "--admin-port", str(admin_port)],
        stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        assert process.stderr
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "curl -s" in line:  # the last line of the banner
                break
        with httpx2.Client() as client:
            assert client.get(f"http://127.0.0.1:{admin_port}/readyz").status_code == 200
            assert client.get(f"http://127.0.0.1:{port}/metrics").status_code == 404
            assert "process_open_fds" in client.get(f"http://127.0.0.1:{admin_port}/metrics").text
        items = [{"token_ids": [n, k] * 100} for n in range(5, 15) for k in range(5, 15)]
        with ThreadPoolExecutor(1) as elsewhere, httpx2.Client(timeout=120) as client:
            url = f"http://127.0.0.1:{port}/score"
            asking = elsewhere.submit(client.post, url, json={"items": items})
            while not said(admin_port, "plaudit_queue_tokens"):  # accepted, and not answered
                assert not asking.done()
            process.send_signal(signal.SIGTERM)
            answer = asking.result()
            assert (answer.status_code, len(answer.json()["rewards"])) == (200, len(items))
        process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == 0
        assert f"http://127.0.0.1:{admin_port}/metrics" in "".join(lines)
        for one in (port, admin_port):
            with socket.create_server(("127.0.0.1", one)):
                pass
    finally:
        process.kill()
        process.wait()
