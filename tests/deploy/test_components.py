"""What single components promise beyond what every overlay does."""

import re
import subprocess
from pathlib import Path

import pytest
from manifests import Manifest, load, quantity, render

from service import timings


def read(root: Path, component: str, file: str) -> dict[str, Manifest]:
    """The objects of a file by their kind."""
    docs = load(root / "k8s" / "components" / component / file)
    return {doc["kind"]: doc for doc in docs}


@pytest.fixture
def scaled(root: Path) -> Manifest:
    return read(root, "keda", "scaledobject.yaml")["ScaledObject"]


@pytest.fixture
def autoscaler(root: Path) -> Manifest:
    found: Manifest = read(root, "hpa", "hpa.yaml")["HorizontalPodAutoscaler"]["spec"]
    return found


def test_redis_is_a_bounded_cache_that_keeps_nothing(root: Path) -> None:
    deployment = read(root, "redis", "redis.yaml")["Deployment"]["spec"]
    assert deployment["replicas"] == 1
    (container,) = deployment["template"]["spec"]["containers"]
    words = container["args"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--save"] == ""
    assert options["--appendonly"] == "no"
    assert options["--maxmemory-policy"] == "allkeys-lfu"
    limit = quantity(container["resources"]["limits"]["memory"])
    assert quantity(options["--maxmemory"]) * 1.25 <= limit


def test_the_redis_url_of_the_script_names_the_redis_service(root: Path) -> None:
    service = read(root, "redis", "redis.yaml")["Service"]
    (port,) = service["spec"]["ports"]
    address = f"{service['metadata']['name']}:{port['port']}/0"
    assert f'at="{address}' in (root / "k8s" / "secrets.sh").read_text()


def test_redis_speaks_tls_only_and_its_key_is_for_its_pod_alone(root: Path) -> None:
    pod = read(root, "redis", "redis.yaml")["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    words = container["args"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert (options["--port"], options["--tls-port"]) == ("0", "6379")
    for probe in ("readinessProbe", "livenessProbe"):
        assert "--tls" in container[probe]["exec"]["command"]
    patch = read(root, "redis", "deployment.yaml")["Deployment"]["spec"]["template"]["spec"]
    (volume,) = patch["volumes"]
    assert [item["key"] for item in volume["secret"]["items"]] == ["ca.crt"]
    (mount,) = patch["containers"][0]["volumeMounts"]
    script = (root / "k8s" / "secrets.sh").read_text()
    assert f"ssl_ca_certs={mount['mountPath']}/ca.crt" in script


def test_both_autoscalers_aim_at_the_deployment_by_waiting_tokens(
    scaled: Manifest, autoscaler: Manifest
) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "plaudit"}
    assert scaled["spec"]["scaleTargetRef"] == autoscaler["scaleTargetRef"] == target
    (metric,) = autoscaler["metrics"]
    assert metric["pods"]["metric"]["name"] == "plaudit_queue_tokens"
    tokens, age = scaled["spec"]["triggers"]
    assert "plaudit_queue_tokens" in tokens["metadata"]["query"]
    assert "plaudit_queue_oldest_age_seconds" in age["metadata"]["query"]
    assert tokens["metadata"]["threshold"] == metric["pods"]["target"]["averageValue"]


def test_both_autoscalers_take_replicas_away_slowly_and_never_the_last(
    scaled: Manifest, autoscaler: Manifest
) -> None:
    advanced = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
    assert advanced["behavior"] == autoscaler["behavior"]
    assert 300 <= autoscaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] <= 600
    assert scaled["spec"]["minReplicaCount"] == autoscaler["minReplicas"] >= 1
    assert "idleReplicaCount" not in scaled["spec"]


def test_keda_is_paused_until_somebody_has_seen_its_queries(scaled: Manifest) -> None:
    # With their number: else KEDA leaves what the cluster takes for a missing one, which is 1.
    fewest = str(scaled["spec"]["minReplicaCount"])
    assert scaled["metadata"]["annotations"] == {"autoscaling.keda.sh/paused-replicas": fewest}


def test_queries_of_keda_are_promql_over_metrics_of_the_service(
    root: Path, scaled: Manifest
) -> None:
    promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed")
    declared = "".join(path.read_text() for path in (root / "service" / "metrics").glob("*.py"))
    for trigger in scaled["spec"]["triggers"]:
        query = trigger["metadata"]["query"]
        promql.parse(query)
        (name,) = re.findall(r"plaudit_\w+", query)
        assert f'"{name}"' in declared
        assert 'job="plaudit"' in query


def test_monitors_give_the_job_the_name_that_rules_expect(root: Path) -> None:
    service = read(root, "service-monitor", "servicemonitor.yaml")["ServiceMonitor"]["spec"]
    pod = read(root, "pod-monitor", "podmonitor.yaml")["PodMonitor"]["spec"]
    for spec, endpoints in ((service, "endpoints"), (pod, "podMetricsEndpoints")):
        assert spec["jobLabel"] == "app.kubernetes.io/name"
        assert spec["selector"]["matchLabels"]["app.kubernetes.io/name"] == "plaudit"
        (endpoint,) = spec[endpoints]
        assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")


def test_the_service_monitor_finds_one_service_and_its_port(root: Path) -> None:
    wanted = read(root, "service-monitor", "servicemonitor.yaml")["ServiceMonitor"]["spec"]
    docs = render(root / "k8s" / "overlays" / "production")
    found = [
        doc
        for doc in docs
        if doc["kind"] == "Service"
        and wanted["selector"]["matchLabels"].items() <= doc["metadata"]["labels"].items()
    ]
    assert [doc["metadata"]["name"] for doc in found] == ["plaudit"]
    assert wanted["endpoints"][0]["port"] in {port["name"] for port in found[0]["spec"]["ports"]}


def test_rules_and_dashboards_are_those_that_are_tested(root: Path) -> None:
    monitoring = render(root / "service" / "monitoring")
    production = render(root / "k8s" / "overlays" / "production")
    held = {(doc["kind"], doc["metadata"]["name"]): doc for doc in production}
    assert len(monitoring) > 5
    for doc in monitoring:
        found = held[doc["kind"], doc["metadata"]["name"]]
        assert found.get("data") == doc.get("data")
        assert found.get("spec") == doc.get("spec")


def test_a_router_that_stops_waits_for_the_longest_answer(root: Path) -> None:
    pod = read(root, "prompt-affine", "router.yaml")["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep >= timings.FORGET_SECONDS + timings.DRAIN_SECONDS
    assert pod["terminationGracePeriodSeconds"] >= sleep + timings.CLOSE_SECONDS


@pytest.mark.parametrize("changed", [False, True])
def test_a_replica_does_not_start_on_a_volume_with_a_changed_file(
    root: Path, tmp_path: Path, changed: bool
) -> None:
    patch = read(root, "model-checked", "deployment.yaml")["Deployment"]
    (check,) = patch["spec"]["template"]["spec"]["initContainers"]
    models = tmp_path / "models"
    (models / "warm").mkdir(parents=True)
    (models / "warm" / "model.safetensors").write_bytes(b"weights")
    (line,) = re.findall(r"^\(cd models .*\)$", (root / "k8s" / "README.md").read_text(), re.M)
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    if changed:
        (models / "warm" / "model.safetensors").write_bytes(b"weighty")
    done = subprocess.run(check["command"], cwd=models, capture_output=True, check=False)
    assert (done.returncode != 0) is changed
