"""The admin port: another listener of the same loop, for those who run the service."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from both_ports import Both

from plaudit.checkpoint import CheckpointError
from service import admin, serve
from service.routes import Routes
from service.serve import main, probed
from service.settings import SettingsError, load
from training.service_process import free_port

ROOT = Path(__file__).parents[2]


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


async def test_while_models_load_it_is_alive_unready_and_scraped(both, metrics):
    at = admin.bind("127.0.0.1", both.settings.admin_port)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{both.settings.admin_port}") as ops:
        with metrics.phase("probes"):
            async with probed(both.settings, metrics, at):
                ready = await ops.get("/readyz")
                assert (await ops.get("/livez")).status_code == 200
                scraped = (await ops.get("/metrics")).text
        assert ready.status_code == 503
        assert ready.json()["detail"] == "the models are being loaded; phase: probes"
        assert ready.headers["retry-after"]
        assert "plaudit_ready 0.0" in scraped
        assert "plaudit_build_info{" in scraped, "or PlauditAbsentMetrics counts a long start"
    at.close()
    async with both:
        assert (await both.ops.get("/readyz")).status_code == 200


async def test_a_server_that_loads_for_long_can_be_asked_and_stopped(both, monkeypatch):
    async def long(settings, metrics):
        await asyncio.Event().wait()

    monkeypatch.setattr(serve, "load_registry", long)
    serving = asyncio.create_task(serve.serve(both.settings))
    async with httpx2.AsyncClient() as ops, asyncio.timeout(60):
        url = f"http://127.0.0.1:{both.settings.admin_port}/readyz"
        while True:
            try:
                assert (await ops.get(url)).status_code == 503
                break
            except httpx2.ConnectError:  # not bound yet
                await asyncio.sleep(0.01)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving


async def test_a_start_that_is_refused_closes_the_port(both, metrics):
    at = admin.bind("127.0.0.1", both.settings.admin_port)
    with pytest.raises(CheckpointError):
        async with probed(both.settings, metrics, at):
            raise CheckpointError("refused")
    with socket.create_server(("127.0.0.1", both.settings.admin_port)):
        pass


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(tiny_checkpoint, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(tiny_checkpoint), "--admin-port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"--admin-port {port}" in said
    assert "name a free port" in said
    assert "loading" not in said


def test_one_port_cannot_be_both(tiny_checkpoint):
    with pytest.raises(SettingsError, match="--admin-port 9001 is --port too"):
        load([str(tiny_checkpoint), "--port", "9001", "--admin-port", "9001"], {})


def test_the_routes_of_the_admin_port_are_open():
    assert {route.use for route in Routes(admin.ADMIN)._exact.values()} == {"open"}


def test_a_real_server_stops_at_sigterm_with_both_ports_closed(tiny_checkpoint):
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
            if f"running on http://127.0.0.1:{port}" in line:
                break
        with httpx2.Client() as client:
            assert client.get(f"http://127.0.0.1:{admin_port}/readyz").status_code == 200
            assert client.get(f"http://127.0.0.1:{port}/metrics").status_code == 404
            assert "process_open_fds" in client.get(f"http://127.0.0.1:{admin_port}/metrics").text
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        process.stderr.close()
        assert process.wait(60) in (0, -signal.SIGTERM)
        assert f"admin: http://127.0.0.1:{admin_port}/metrics" in "".join(lines)
        for one in (port, admin_port):
            with socket.create_server(("127.0.0.1", one)):
                pass
    finally:
        process.kill()
        process.wait()
