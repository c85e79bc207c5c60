import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from plaudit.version import VERSION
from service import timings

SECRETS = {
    "PLAUDIT_API_KEYS": "a-key",
    "PLAUDIT_CACHE_SECRET": "a-secret",
    "GRAFANA_PASSWORD": "a-password",
    "REDIS_PASSWORD": "another",
    "REDIS_PASSWORD_SHA256": "its-hash",
    "REDIS_OPERATOR_PASSWORD_SHA256": "the operator's",
}
Compose = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def compose(root: Path, tool: Callable[[str], str]) -> Compose:
    """Runs `docker-compose config`, which needs no daemon; a developer's .env is left out."""

    def run(env: dict[str, str], *files: str) -> subprocess.CompletedProcess[str]:
        chosen = [word for file in ("docker-compose.yml", *files) for word in ("-f", file)]
        command = [tool("docker-compose"), "--env-file", os.devnull, *chosen]
        return subprocess.run(
            [*command, "config", "--format", "json"],
            cwd=root,
            env={"PATH": os.environ["PATH"], **env},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def services(compose: Compose) -> dict[str, Any]:
    done = compose(SECRETS)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "compose warns"
    made: dict[str, Any] = json.loads(done.stdout)["services"]
    return made


@pytest.fixture(scope="module")
def source(root: Path) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text())
    return made


def mounts(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {volume["target"]: volume for volume in service.get("volumes", [])}


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_every_published_port_is_on_loopback(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert {port["published"] for port in ports} == {"8000", "9464", "9090", "9093", "3000"}


@pytest.mark.parametrize("missing", SECRETS)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_secret_is_named(compose: Compose, missing: str, value: str | None) -> None:
    env = {k: v for k, v in SECRETS.items() if k != missing}
    done = compose(env if value is None else env | {missing: value})
    assert done.returncode != 0
    assert missing in done.stderr
    assert "sh docker/secrets.sh" in done.stderr


def test_no_secret_is_written_down(source: dict[str, Any]) -> None:
    text = json.dumps(source)
    assert set(re.findall(r"\$\{(\w+):\?run sh docker/secrets\.sh", text)) == set(SECRETS)
    environments = [service.get("environment", {}) for service in source["services"].values()]
    secrets = [
        value
        for environment in environments
        for name, value in environment.items()
        if re.search("PASSWORD|KEY|SECRET|TOKEN|REDIS_URL", name)
    ]
    assert len(secrets) == 4
    assert all("${" in secret for secret in secrets)


def test_a_password_is_on_no_command_line(services: dict[str, Any]) -> None:
    shown = [word for service in services.values() for word in service.get("command") or []]
    held = {SECRETS[name] for name in SECRETS if not name.endswith("SHA256")}
    assert not held & set(shown)
    assert not [word for word in shown if word.startswith(">")]


def test_every_container_is_locked_down(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert not service.get("cap_add"), name


def test_no_container_runs_as_root(services: dict[str, Any]) -> None:
    # Plaudit's user is the image's; test_dockerfile looks at it.
    users = {name: service["user"] for name, service in services.items() if name != "plaudit"}
    assert all(re.fullmatch(r"[1-9]\d*:\d+", user) for user in users.values()), users


def test_images_are_pinned_to_a_version(services: dict[str, Any]) -> None:
    images = [service["image"] for service in services.values() if "build" not in service]
    assert all(re.search(r":v?\d+\.\d+", image) for image in images), images


def test_models_are_mounted_read_only(services: dict[str, Any]) -> None:
    models = mounts(services["plaudit"])["/models"]
    assert models["read_only"]
    assert not models["bind"].get("create_host_path", False)


def test_configuration_is_mounted_read_only_and_exists(
    root: Path, services: dict[str, Any]
) -> None:
    made = root / "docker" / "tls"  # by docker/secrets.sh, as test_secrets shows
    for service in services.values():
        binds = [m for m in mounts(service).values() if m["type"] == "bind"]
        assert all(bind["read_only"] for bind in binds)
        ours = [Path(bind["source"]) for bind in binds if bind["target"] != "/models"]
        folders = (root / "docker", root / "service" / "monitoring")
        assert all(any(path.is_relative_to(folder) for folder in folders) for path in ours)
        assert all(path.exists() for path in ours if path.parent != made)


def test_redis_key_is_mounted_into_redis_alone_and_never_made_up(
    root: Path, services: dict[str, Any]
) -> None:
    tls = root / "docker" / "tls"
    held = {
        name: {Path(bind["source"]).name for bind in mounts(service).values()
               if Path(bind.get("source") or "/").parent == tls}
        for name, service in services.items()
    }  # fmt: skip
    assert {name: files for name, files in held.items() if files} == {
        "plaudit": {"ca.crt"},
        "redis": {"ca.crt", "tls.crt", "tls.key"},
    }
    binds = [bind for service in services.values() for bind in mounts(service).values()]
    assert not any(bind.get("bind", {}).get("create_host_path") for bind in binds)


def test_redis_is_a_bounded_cache_that_keeps_nothing(services: dict[str, Any]) -> None:
    redis = services["redis"]
    command = redis["command"]
    assert option(command, "--save") == ""
    assert option(command, "--appendonly") == "no"
    assert option(command, "--maxmemory-policy") == "allkeys-lfu"
    held = int(option(command, "--maxmemory").removesuffix("mb")) * 2**20
    assert held < int(redis["mem_limit"])
    assert all(mount["read_only"] for mount in mounts(redis).values())


def test_redis_speaks_tls_only(services: dict[str, Any]) -> None:
    redis, told = services["redis"], services["plaudit"]["environment"]["PLAUDIT_REDIS_URL"]
    assert option(redis["command"], "--port") == "0"
    assert option(redis["command"], "--tls-port") == "6379"
    url = urlsplit(told)
    assert (url.scheme, url.hostname, url.port) == ("rediss", "redis", 6379)
    (trusted,) = parse_qs(url.query)["ssl_ca_certs"]
    assert trusted in mounts(services["plaudit"])
    for name in ("--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"):
        assert option(redis["command"], name) in mounts(redis)
    assert {"--tls", "--cacert"} < set(redis["healthcheck"]["test"])


def test_only_plaudit_reaches_redis(compose: Compose, services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if "cache" in service["networks"]} == {
        "plaudit",
        "redis",
    }
    assert set(services["redis"]["networks"]) == {"cache"}
    assert json.loads(compose(SECRETS).stdout)["networks"]["cache"]["internal"]


def test_every_container_that_is_published_is_on_the_network_for_it(
    compose: Compose, services: dict[str, Any]
) -> None:
    published = {name for name, service in services.items() if service.get("ports")}
    assert published == {name for name, each in services.items() if "outside" in each["networks"]}
    networks = json.loads(compose(SECRETS).stdout)["networks"]
    assert not networks["outside"].get("internal")
    assert networks["monitoring"]["internal"]


def test_the_engine_has_no_port_of_its_own(services: dict[str, Any]) -> None:
    targets = {port["target"] for port in services["plaudit"]["ports"]}
    admin = int(services["plaudit"]["environment"]["PLAUDIT_ADMIN_PORT"])
    assert targets == {8000, admin}
    assert not services["plaudit"].get("expose")


def test_a_stop_leaves_time_to_finish(services: dict[str, Any]) -> None:
    minutes, seconds = re.fullmatch(
        r"(?:(\d+)m)?(?:(\d+)s)?", services["plaudit"]["stop_grace_period"]
    ).groups("0")  # type: ignore[union-attr]
    promised = timings.STOP_SECONDS - timings.FORGET_SECONDS
    assert services["plaudit"]["environment"]["PLAUDIT_DRAIN_DELAY_SECONDS"] == "0"
    assert int(minutes) * 60 + int(seconds) >= promised


def test_memory_and_processes_are_bounded_but_the_models(services: dict[str, Any]) -> None:
    assert {name for name, each in services.items() if "mem_limit" not in each} == {"plaudit"}
    assert all(each["pids_limit"] for each in services.values())


def test_logs_are_rotated(services: dict[str, Any]) -> None:
    assert all(each["logging"]["options"]["max-size"] for each in services.values())


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker/gpu.yml"])
def test_files_match_the_schema_of_compose(
    root: Path, tool: Callable[[str], str], file: str
) -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", file]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_linter_finds_nothing_that_has_no_reason(
    root: Path, tool: Callable[[str], str]
) -> None:
    command = [tool("compose-lint"), "check", "--no-env", "--fail-on", "low"]
    reasons = ["--config", "docker/compose-lint.yml", "docker-compose.yml"]
    done = subprocess.run(
        [*command, *reasons], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_service_has_a_health_check(root: Path, services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if "healthcheck" not in service} == {
        "plaudit"
    }
    assert "HEALTHCHECK" in (root / "Dockerfile").read_text()


def test_start_order(services: dict[str, Any]) -> None:
    order = {
        name: {other: link["condition"] for other, link in service["depends_on"].items()}
        for name, service in services.items()
        if "depends_on" in service
    }
    assert order == {
        "plaudit": {"redis": "service_healthy"},
        "prometheus": {"plaudit": "service_started"},
        "grafana": {"prometheus": "service_healthy"},
    }


def test_environment_variables_are_settings(services: dict[str, Any], settings: set[str]) -> None:
    assert set(services["plaudit"]["environment"]) <= settings


def test_the_image_is_named_after_the_version(services: dict[str, Any]) -> None:
    assert services["plaudit"]["image"] == f"plaudit:{VERSION}"


def test_prometheus_scrapes_the_admin_port_of_the_service(
    root: Path, services: dict[str, Any]
) -> None:
    config = yaml.safe_load((root / "service" / "monitoring" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    port = services["plaudit"]["environment"]["PLAUDIT_ADMIN_PORT"]
    assert job["static_configs"] == [{"targets": [f"plaudit:{port}"]}]
    assert services["plaudit"]["environment"]["PLAUDIT_ADMIN_HOST"] == "0.0.0.0"
    # It scrapes without a key, which the server allows only if it is told so.
    assert "authorization" not in job
    assert services["plaudit"]["environment"]["PLAUDIT_OPEN_METRICS"] == "true"


def test_prometheus_finds_its_rules_and_alertmanager(services: dict[str, Any], root: Path) -> None:
    mounted = mounts(services["prometheus"])
    at = Path("/etc/prometheus/prometheus.yml")
    config = yaml.safe_load(Path(mounted[str(at)]["source"]).read_text())
    (pattern,) = config["rule_files"]
    folder, _, ending = str(at.parent / pattern).rpartition("/*")
    assert list(Path(mounted[folder]["source"]).glob(f"*{ending}"))
    (sent,) = config["alerting"]["alertmanagers"]
    (port,) = services["alertmanager"]["ports"]
    assert sent["static_configs"] == [{"targets": [f"alertmanager:{port['target']}"]}]


def test_alertmanager_is_given_its_configuration(services: dict[str, Any], root: Path) -> None:
    command = services["alertmanager"]["command"]
    path = command[0].removeprefix("--config.file=")
    mounted = mounts(services["alertmanager"])[path]["source"]
    assert Path(mounted) == root / "service" / "monitoring" / "alertmanager.yml"


def test_grafana_finds_prometheus_and_the_dashboard(root: Path, services: dict[str, Any]) -> None:
    provisioning = root / "docker" / "grafana" / "provisioning"
    monitoring = root / "service" / "monitoring"
    (datasource,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    (port,) = services["prometheus"]["ports"]
    assert datasource["url"] == f"http://prometheus:{port['target']}"
    scrape = yaml.safe_load((monitoring / "prometheus.yml").read_text())["global"]
    assert datasource["jsonData"]["timeInterval"] == scrape["scrape_interval"]

    (provider,) = yaml.safe_load((provisioning / "dashboards" / "plaudit.yml").read_text())[
        "providers"
    ]
    mounted = mounts(services["grafana"])[provider["options"]["path"]]
    assert Path(mounted["source"]) == monitoring / "dashboards"
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (monitoring / "dashboards" / home.name).exists()


def test_prometheus_keeps_what_the_promise_is_counted_over(
    root: Path, services: dict[str, Any]
) -> None:
    (kept,) = re.findall(r"retention\.time=(\d+)d", " ".join(services["prometheus"]["command"]))
    rules = (root / "service" / "monitoring" / "rules" / "slo.yml").read_text()
    windows = [int(days) for days in re.findall(r"\[(\d+)d\]", rules)]
    assert int(kept) > max(windows) == 30


def test_the_gpu_file_builds_for_cuda_and_asks_for_the_gpu(compose: Compose) -> None:
    done = compose(SECRETS, "docker/gpu.yml")
    assert done.returncode == 0, done.stderr
    plaudit = json.loads(done.stdout)["services"]["plaudit"]
    assert plaudit["build"]["args"]["TARGET"] == "cuda"
    assert plaudit["gpus"]
