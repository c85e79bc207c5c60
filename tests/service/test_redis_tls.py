"""TLS to a real redis-server: whom the service trusts, how it shows who it is, and what it does
where it does not trust."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_process import serving_redis

from service.cache import RedisCache
from service.metrics import Metrics
from training.service_process import free_port

ROOT = Path(__file__).parents[2]
KEY = b"k" * 45


def certified(folder: Path, *names: str) -> Path:
    """A folder with ca.crt, tls.crt and tls.key, as the deployments have them."""
    folder.mkdir()
    script = str(ROOT / "docker" / "tls.sh")
    subprocess.run(["sh", script, str(folder), *names], check=True)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certified(tmp_path_factory.mktemp("tls") / "redis", "redis")


@pytest.fixture(scope="module")
def client_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=plaudit -batch"
    command = [*words.split(), "-keyout", "client.key", "-out", "client.crt"]
    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return folder


def tls_words(files: Path, *more: str) -> tuple[int, list[str]]:
    port = free_port()
    words = ["--port", "0", "--tls-port", str(port), "--tls-cert-file", str(files / "tls.crt")]
    return port, [*words, "--tls-key-file", str(files / "tls.key"), "--save", "", *more]


@pytest.fixture(scope="module")
def place(files: Path) -> Iterator[str]:
    port, words = tls_words(files, "--tls-ca-cert-file", str(files / "ca.crt"),
                            "--tls-auth-clients", "no")  # fmt: skip
    with serving_redis(files, *words):
        yield f"rediss://127.0.0.1:{port}/0"


async def kept_and_found(url: str, metrics: Metrics) -> dict[bytes, float]:
    cache = RedisCache(url, metrics, timeout_seconds=60, ttl_seconds=60, secret="s")
    await cache.put({KEY: 1.5})
    found = await cache.get([KEY])
    await cache.close()
    return found


async def test_the_authority_that_the_url_names_is_trusted(place, files, metrics):
    url = f"{place}?ssl_ca_certs={files / 'ca.crt'}"
    assert await kept_and_found(url, metrics) == {KEY: 1.5}


async def test_a_certificate_and_its_key_show_who_the_service_is(
    files, client_files, metrics, tmp_path
):
    port, words = tls_words(files, "--tls-ca-cert-file", str(client_files / "client.crt"),
                            "--tls-auth-clients", "yes")  # fmt: skip
    plain = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={files / 'ca.crt'}"
    shown = f"&ssl_certfile={client_files / 'client.crt'}&ssl_keyfile={client_files / 'client.key'}"
    with serving_redis(tmp_path, *words):
        assert await kept_and_found(plain, metrics) == {}
        assert await kept_and_found(plain + shown, metrics) == {KEY: 1.5}


async def test_a_redis_of_another_authority_is_not_used_and_requests_are_answered(
    place, serve, tiny_checkpoint, tmp_path, caplog
):
    other = certified(tmp_path / "other", "redis")
    settings = {
        "models": [tiny_checkpoint],
        "redis_url": f"{place}?ssl_ca_certs={other / 'ca.crt'}",
        "redis_timeout_ms": 60_000,  # a handshake on a busy machine is no failure of trust
    }
    async with serve(**settings) as client:
        for i in range(3):
            body = {"items": [{"prompt": "Who?", "response": f"Me {i}"}]}
            assert (await client.post("/score", json=body)).status_code == 200
    said = [record for record in caplog.records if record.message == "redis fails"]
    assert {record.fields["op"] for record in said} <= {"mget", "set"}
    assert all("CERTIFICATE_VERIFY_FAILED" in record.fields["said"] for record in said)
    assert said
    assert str(other) not in str([record.fields for record in said])
