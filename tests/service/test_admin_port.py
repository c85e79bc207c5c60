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
from both_ports import Both

from plaudit.checkpoint import CheckpointError
from service import listening, serve
from service.routes import ADMIN, Routes
from service.serve import access_of, main, probed
from service.settings import SettingsError, load
from training.service_process import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def both(metrics, tiny_checkpoint):
    return Both(metrics, models=[tiny_checkpoint], port=0, admin_port=free_port(), api_keys="right")


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

        @both.app.get("/ui/slow")  # of a declared path
        async def slow():
            await gate.wait()
            return {}

        headers = {"Authorization": "Bearer right"}
        answering = asyncio.create_task(both.client.get("/ui/slow", headers=headers, timeout=60))
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
    at = listening.bind("127.0.0.1", both.settings.admin_port, "--admin-")
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{both.settings.admin_port}") as ops:
        with metrics.phase("probes"):
            async with probed(both.settings, metrics, at, access_of(both.settings, metrics)):
                ready = await ops.get("/readyz")
                assert (await ops.get("/livez")).status_code == 200
                scraped = (await ops.get("/metrics")).text
                page = await ops.get("/ops")
        assert ready.status_code == 503
        assert ready.json()["detail"] == "the models are being loaded; phase: probes"
        assert ready.headers["retry-after"]
        assert (page.status_code, page.json()["detail"]) == (404, "not before models are loaded")
        assert "plaudit_ready 0.0" in scraped
        assert "plaudit_build_info{" in scraped, "or PlauditAbsentMetrics counts a long start"
    for one in at:
        one.close()
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


async def test_a_start_that_is_refused_closes_the_port(both, monkeypatch):
    async def refused(settings, metrics):
        raise CheckpointError("refused")

    monkeypatch.setattr(serve, "load_registry", refused)
    with pytest.raises(CheckpointError):
        await serve.serve(both.settings)
    with socket.create_server(("127.0.0.1", both.settings.admin_port)):
        pass


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


def test_a_key_for_metrics_is_all_that_the_admin_port_asks_for():
    assert {route.use for route in Routes(ADMIN)._exact.values()} == {"open", "metrics"}


def said(admin_port: int, gauge: str) -> float:
    text = httpx2.get(f"http://127.0.0.1:{admin_port}/metrics", timeout=120).text
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
        items = [{"token_ids": [n, k] * 250} for n in range(5, 15) for k in range(5, 15)]
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
