"""The scripts that make secrets, and what a real redis-server makes of them."""

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import yaml
from manifests import load
from redis_process import serving_redis

from service import cache_command
from service.breaker import Breaker
from service.cache import KEY_PREFIX, RedisCache, key_of
from service.metrics import Metrics
from training.service_process import free_port


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def env_file(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose")
    done = run("sh", str(root / "docker" / "secrets.sh"), str(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / ".env"


@pytest.fixture(scope="module")
def variables(env_file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in env_file.read_text().splitlines())


@pytest.fixture(scope="module")
def cluster_secrets(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster") / "secrets"
    done = run("sh", str(root / "k8s" / "secrets.sh"), str(folder), cwd=root)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_env_file_is_for_its_owner_alone_and_never_overwritten(
    root: Path, env_file: Path
) -> None:
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    before = env_file.read_text()
    again = run("sh", str(root / "docker" / "secrets.sh"), str(env_file.parent), cwd=root)
    assert again.returncode != 0
    assert "is there already" in again.stderr
    assert env_file.read_text() == before


def test_every_secret_is_long_and_random(variables: dict[str, str]) -> None:
    assert all(len(value) >= 32 for value in variables.values())
    assert len(set(variables.values())) == len(variables)
    for name in ("REDIS_PASSWORD", "REDIS_OPERATOR_PASSWORD"):
        digest = hashlib.sha256(variables[name].encode()).hexdigest()
        assert variables[f"{name}_SHA256"] == digest


def test_compose_starts_with_the_env_file_alone(
    root: Path, env_file: Path, tool: Callable[[str], str]
) -> None:
    assert rendered(root, env_file, tool)


def test_redis_s_key_is_in_a_folder_for_its_owner_alone(env_file: Path) -> None:
    """Other users' files in it: those of the containers, which get them one by one."""
    folder = env_file.parent / "docker" / "tls"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "tls.crt", "tls.key"]


def test_nothing_that_the_script_s_authority_did_not_sign_is_taken_for_redis(
    url: str, tmp_path: Path, root: Path
) -> None:
    done = run("sh", str(root / "docker" / "tls.sh"), str(tmp_path), "redis", cwd=root)
    assert done.returncode == 0, done.stderr
    base = url.partition("?")[0]
    for query in (f"?ssl_ca_certs={tmp_path / 'ca.crt'}", ""):
        with (
            redis.Redis.from_url(base + query) as client,
            pytest.raises(redis.exceptions.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            client.ping()


def test_redis_answers_nobody_without_tls(url: str) -> None:
    base = url.partition("?")[0].replace("rediss://", "redis://")
    with (
        redis.Redis.from_url(base, socket_timeout=30) as client,
        pytest.raises(redis.exceptions.RedisError),
    ):
        client.ping()


def test_secrets_of_a_cluster_are_for_their_owner_alone(cluster_secrets: Path) -> None:
    for path in [cluster_secrets, *cluster_secrets.rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def rendered(
    root: Path, env_file: Path, tool: Callable[[str], str]
) -> dict[str, dict[str, object]]:
    command = [tool("docker-compose"), "--env-file", str(env_file), "config", "--format", "json"]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, dict[str, object]] = json.loads(done.stdout)["services"]
    return made


def started(words: list[str], folder: Path) -> Iterator[int]:
    """The TLS port of a real redis-server with the arguments of a container."""
    told = words.index("--tls-port") + 1
    port = free_port()
    with serving_redis(folder, *words[:told], str(port), *words[told + 1 :]):
        yield port


@pytest.fixture(scope="module", params=["compose", "kubernetes"])
def urls(
    request: pytest.FixtureRequest,
    root: Path,
    tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, str]]:
    """The service's and the operator's, of a server started as the container is, with the passwords
    and the certificate of the script."""
    folder = tmp_path_factory.mktemp("redis")
    if request.param == "compose":
        env_file = request.getfixturevalue("env_file")
        services = rendered(root, env_file, tool)
        mounted, tls = "/run/redis/", env_file.parent / "docker" / "tls"
        words = services["redis"]["command"]
        told = services["plaudit"]["environment"]
        assert isinstance(words, list)
        assert isinstance(told, dict)
        there, address = told["PLAUDIT_REDIS_URL"], "redis:6379"
        password = request.getfixturevalue("variables")["REDIS_OPERATOR_PASSWORD"]
        operators = there.replace("plaudit:", "plaudit-operator:").replace(
            there.split(":")[2].split("@")[0], password
        )
    else:
        folder_of_all = request.getfixturevalue("cluster_secrets")
        mounted, tls = "/run/secrets/redis-tls/", folder_of_all / "plaudit-redis-tls"
        words = container_words(root, folder_of_all / "plaudit-redis")
        there, address = (folder_of_all / "plaudit-redis" / "url").read_text(), "plaudit-redis:6379"
        operators = (folder_of_all / "operator" / "url").read_text()
    words = [word.replace(mounted, f"{tls}/") for word in words[1:]]
    for port in started(words, folder):
        here = f"127.0.0.1:{port}"
        yield tuple(
            url.replace(address, here).replace(mounted, f"{tls}/") for url in (there, operators)
        )


@pytest.fixture
def url(urls: tuple[str, str]) -> str:
    return urls[0]


@pytest.fixture
def operator_url(urls: tuple[str, str]) -> str:
    return urls[1]


def container_words(root: Path, secrets: Path) -> list[str]:
    """The arguments of the Redis pod, with the secret where the test has it."""
    docs = load(root / "k8s" / "components" / "redis" / "redis.yaml")
    (found,) = [doc for doc in docs if doc["kind"] == "Deployment"]
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return [word.replace("/run/secrets/redis/", f"{secrets}/") for word in container["args"]]


async def test_the_service_reads_and_writes_its_scores(url: str) -> None:
    metrics = Metrics()
    cache = RedisCache(
        url, metrics, timeout_seconds=30, ttl_seconds=60, secret="s", breaker=Breaker(failures=1)
    )
    key = key_of("revision", "numerics", [1, 2, 3])
    await cache.put({key: 1.5})
    assert await cache.get([key]) == {key: 1.5}
    await cache.close()


@pytest.mark.parametrize(
    "command",
    [
        ["EVAL", "return 1", "0"],
        ["KEYS", "*"],
        ["SCAN", "0"],
        ["FLUSHALL"],
        ["CONFIG", "GET", "*"],
        ["DEL", "plaudit:1:a"],
        ["EXPIRE", "plaudit:1:a", "1"],
        ["SET", "another:1", "a"],
        ["GET", "another:1"],
        ["ACL", "LIST"],
        ["SUBSCRIBE", "plaudit:1"],
    ],
    ids=lambda command: command[0] if isinstance(command, list) else None,
)
def test_the_service_s_user_may_do_nothing_else(url: str, command: list[str]) -> None:
    with redis.Redis.from_url(url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


async def test_the_operator_counts_and_removes_what_the_service_wrote(
    url: str, operator_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = RedisCache(
        url, Metrics(), timeout_seconds=30, ttl_seconds=60, secret="s", breaker=Breaker(failures=1)
    )
    key = key_of("a-revision-of-12", "numerics", [1, 2, 3])
    await cache.put({key: 1.5})
    where = ["--redis-url", operator_url]
    assert cache_command.main(["stats", "--json", *where]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["keys"] >= 1
    assert counted["bytes"] > 0
    assert counted["revisions"][0]["longest_ttl_seconds"] <= 60
    assert (
        cache_command.main(["purge", "--older", "1s", "--yes", "--ttl-seconds", "60", *where]) == 0
    )
    assert cache_command.main(["purge", "--all", "--yes", *where]) == 0
    assert await cache.get([key]) == {}
    await cache.close()
    with pytest.raises(cache_command.CacheError, match="the user needs more"):
        cache_command.main(["stats", "--redis-url", url])


@pytest.mark.parametrize(
    "command",
    [
        ["GET", "plaudit:1:a"],
        ["SET", "plaudit:1:a", "a"],
        ["UNLINK", "another:1"],
        ["FLUSHALL"],
        ["CONFIG", "GET", "*"],
        ["ACL", "LIST"],
    ],
    ids=lambda command: command[0] if isinstance(command, list) else None,
)
def test_the_operator_reads_and_writes_no_score(operator_url: str, command: list[str]) -> None:
    with (
        redis.Redis.from_url(operator_url) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*command)


def test_the_operator_s_commands_are_those_that_the_command_asks_for(
    root: Path, cluster_secrets: Path
) -> None:
    wanted = set(cache_command.COMMANDS.split())
    written = (cluster_secrets / "plaudit-redis" / "users.acl").read_text()
    (line,) = [line for line in written.splitlines() if line.startswith("user plaudit-operator ")]
    assert {word for word in line.split() if word.startswith("+")} == wanted
    words = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]["redis"][
        "command"
    ]
    told = words[words.index("plaudit-operator") :]
    assert {word for word in told if word.startswith("+")} == wanted


def test_without_the_password_one_may_ping_and_no_more(url: str) -> None:
    address = url.rpartition("@")[2]
    with redis.Redis.from_url(f"rediss://{address}") as client:
        assert client.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.get(KEY_PREFIX + b"a")
    with (
        redis.Redis.from_url(f"rediss://plaudit:wrong@{address}") as client,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        client.ping()
