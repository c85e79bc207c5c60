import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from manifests import Manifest, assert_reserves_memory, assert_restricted, load


@pytest.fixture(scope="module")
def base(root: Path) -> Path:
    return root / "k8s" / "base"


@pytest.fixture(scope="module")
def kustomization(base: Path) -> Manifest:
    return load(base / "kustomization.yaml")[0]


@pytest.fixture(scope="module")
def manifests(base: Path, kustomization: Manifest) -> dict[tuple[str, str], Manifest]:
    """The resources by kind and name, as written: the kustomization adds one label to them."""
    docs = load(*(base / name for name in kustomization["resources"]))
    return {(doc["kind"], doc["metadata"]["name"]): doc for doc in docs}


@pytest.fixture(scope="module")
def pods(root: Path, manifests: dict[tuple[str, str], Manifest]) -> dict[str, Manifest]:
    """Every pod spec by name."""
    found = {
        name: doc["spec"]["template"]["spec"]
        for (kind, name), doc in manifests.items()
        if kind == "Deployment"
    }
    (loader,) = load(root / "k8s" / "loader.yaml")
    return found | {"loader": loader["spec"]}


@pytest.fixture(scope="module")
def container(pods: dict[str, Manifest]) -> Manifest:
    (found,) = pods["plaudit"]["containers"]
    made: Manifest = found
    return made


def quantity(text: str) -> int:
    """Bytes, of Kubernetes (Gi) or Redis (gb): both mean powers of two here."""
    found = re.fullmatch(r"(\d+)([mg])[ib]", text.lower())
    assert found, text
    return int(found[1]) * {"m": 2**20, "g": 2**30}[found[2]]


def env(container: Manifest) -> dict[str, Manifest]:
    return {entry["name"]: entry for entry in container["env"]}


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_manifests_match_the_schema(
    root: Path, base: Path, kustomization: Manifest, tool: Callable[[str], str], version: str
) -> None:
    files = [base / name for name in kustomization["resources"]] + [root / "k8s" / "loader.yaml"]
    command = [tool("kubernetes-validate"), "--strict", "--kubernetes-version", version]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kustomize_renders_every_resource(
    base: Path, manifests: dict[tuple[str, str], Manifest]
) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, so the kustomization is read but not rendered")
    command = ["kubectl", "kustomize", str(base)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    assert {(doc["kind"], doc["metadata"]["name"]) for doc in rendered} == set(manifests)
    for doc in rendered:
        assert doc["metadata"]["labels"]["app.kubernetes.io/part-of"] == "plaudit"
        # A selector that gains a label cannot be applied over an older release.
        assert "part-of" not in str(doc["spec"].get("selector") if "spec" in doc else "")


def test_the_kustomization_forgets_no_file(base: Path, kustomization: Manifest) -> None:
    files = {path.name for path in base.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files


def test_no_namespace_and_no_secret(manifests: dict[tuple[str, str], Manifest]) -> None:
    assert not any("namespace" in doc["metadata"] for doc in manifests.values())
    assert not any(kind == "Secret" for kind, _ in manifests)


def test_pods_are_restricted(pods: dict[str, Manifest]) -> None:
    for name, pod in pods.items():
        assert_restricted(name, pod)


def test_the_pod_runs_as_the_user_of_the_image(root: Path, pods: dict[str, Manifest]) -> None:
    context = pods["plaudit"]["securityContext"]
    assert (
        f"USER {context['runAsUser']}:{context['runAsGroup']}\n"
        in (root / "Dockerfile").read_text()
    )


def test_the_service_account_has_no_token(manifests: dict[tuple[str, str], Manifest]) -> None:
    assert manifests["ServiceAccount", "plaudit"]["automountServiceAccountToken"] is False


def test_memory_is_reserved_and_cpu_is_not_capped(pods: dict[str, Manifest]) -> None:
    for name, pod in pods.items():
        assert_reserves_memory(name, pod)


def test_what_is_written_goes_to_bounded_memory(
    pods: dict[str, Manifest], container: Manifest
) -> None:
    volumes = {volume["name"]: volume for volume in pods["plaudit"]["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    scratch = volumes[mounts["/tmp"]["name"]]["emptyDir"]
    assert scratch["medium"] == "Memory"
    assert quantity(scratch["sizeLimit"]) < quantity(container["resources"]["limits"]["memory"])
    assert all(mount.get("readOnly") for path, mount in mounts.items() if path != "/tmp")


def test_models_come_from_the_claim_and_cannot_be_changed(
    pods: dict[str, Manifest], manifests: dict[tuple[str, str], Manifest]
) -> None:
    volumes = {volume["name"]: volume for volume in pods["plaudit"]["volumes"]}
    claim = volumes["models"]["persistentVolumeClaim"]
    assert claim["readOnly"] is True
    assert ("PersistentVolumeClaim", claim["claimName"]) in manifests
    (loaded,) = [v for v in pods["loader"]["volumes"] if v["name"] == "models"]
    assert loaded["persistentVolumeClaim"] == {"claimName": claim["claimName"]}


def test_the_api_keys_come_from_the_secret_of_the_readme(
    root: Path, pods: dict[str, Manifest], container: Manifest
) -> None:
    path = Path(env(container)["PLAUDIT_API_KEYS_FILE"]["value"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pods["plaudit"]["volumes"]}
    secret = volumes[mounts[str(path.parent)]]["secret"]["secretName"]
    command = f"kubectl create secret generic {secret} --from-file={path.name}\n"
    assert command in (root / "k8s" / "README.md").read_text()


def test_no_secret_is_written_down(pods: dict[str, Manifest]) -> None:
    for pod in pods.values():
        for each in pod["containers"]:
            for entry in each.get("env", []):
                if re.search("PASSWORD|KEY|SECRET|TOKEN", entry["name"]):
                    assert entry["name"].endswith("_FILE") or "valueFrom" in entry


def test_environment_variables_are_settings(container: Manifest, settings: set[str]) -> None:
    assert {name for name in env(container) if name.startswith("PLAUDIT_")} <= settings


def test_the_service_does_not_set_plaudit_port(pods: dict[str, Manifest]) -> None:
    """A Service named plaudit would otherwise put PLAUDIT_PORT=tcp://... into the environment."""
    assert all(pod["enableServiceLinks"] is False for pod in pods.values())


def test_probes(container: Manifest) -> None:
    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert paths == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }
    ports = {port["name"] for port in container["ports"]}
    assert all(container[probe]["httpGet"]["port"] in ports for probe in paths)


def test_a_slow_model_load_is_no_failed_rollout(
    manifests: dict[tuple[str, str], Manifest], container: Manifest
) -> None:
    startup = container["startupProbe"]
    budget = startup["periodSeconds"] * startup["failureThreshold"]
    assert budget >= 600
    assert manifests["Deployment", "plaudit"]["spec"]["progressDeadlineSeconds"] > budget


def test_a_rollout_never_takes_capacity_away(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    spec = manifests["Deployment", "plaudit"]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "replicas" not in spec, "the autoscaler owns the number of replicas"


def test_a_pod_has_time_to_drain(pods: dict[str, Manifest], container: Manifest) -> None:
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep >= 5
    assert pods["plaudit"]["terminationGracePeriodSeconds"] >= sleep + 60


def test_selectors_find_the_pods(manifests: dict[tuple[str, str], Manifest]) -> None:
    labels = {
        name: doc["spec"]["template"]["metadata"]["labels"].items()
        for (kind, name), doc in manifests.items()
        if kind == "Deployment"
    }
    for (kind, name), doc in manifests.items():
        spec = doc.get("spec", {})
        if kind == "Service":
            assert spec["selector"].items() <= labels[name]
        if kind in ("Deployment", "PodDisruptionBudget"):
            assert spec["selector"]["matchLabels"].items() <= labels[name]
        if kind == "NetworkPolicy":
            assert spec["podSelector"]["matchLabels"].items() <= labels[name]


def test_services_lead_to_a_port_of_the_container(
    manifests: dict[tuple[str, str], Manifest], pods: dict[str, Manifest]
) -> None:
    for name in ("plaudit", "plaudit-redis"):
        (port,) = manifests["Service", name]["spec"]["ports"]
        (each,) = pods[name]["containers"]
        open_ports = {known["name"]: known["containerPort"] for known in each["ports"]}
        assert open_ports[port["targetPort"]] == port["port"]


def test_the_port_is_the_image_s(root: Path, container: Manifest) -> None:
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}\n" in (root / "Dockerfile").read_text()


def test_the_redis_url_names_the_redis_service(
    manifests: dict[tuple[str, str], Manifest], container: Manifest
) -> None:
    (port,) = manifests["Service", "plaudit-redis"]["spec"]["ports"]
    url = env(container)["PLAUDIT_REDIS_URL"]["value"]
    assert url == f"redis://plaudit-redis:{port['port']}/0"


def test_redis_is_a_bounded_cache_that_keeps_nothing(pods: dict[str, Manifest]) -> None:
    (redis,) = pods["plaudit-redis"]["containers"]
    words = redis["args"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--save"] == ""
    assert options["--appendonly"] == "no"
    assert options["--maxmemory-policy"] == "allkeys-lfu"
    limit = quantity(redis["resources"]["limits"]["memory"])
    assert quantity(options["--maxmemory"]) * 1.25 <= limit


def test_the_autoscaler_scales_the_deployment_on_waiting_tokens(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    spec = manifests["HorizontalPodAutoscaler", "plaudit"]["spec"]
    target = spec["scaleTargetRef"]
    assert target["apiVersion"] == manifests[target["kind"], target["name"]]["apiVersion"]
    (metric,) = spec["metrics"]
    assert metric["pods"]["metric"]["name"] == "plaudit_queue_tokens"
    assert spec["minReplicas"] >= 2
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300


def test_a_disruption_takes_one_replica_and_never_waits_for_a_broken_one(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    spec = manifests["PodDisruptionBudget", "plaudit"]["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_network_paths_are_closed_but_the_named_ones(
    manifests: dict[tuple[str, str], Manifest], pods: dict[str, Manifest]
) -> None:
    service, redis = (
        manifests["NetworkPolicy", name]["spec"] for name in ("plaudit", "plaudit-redis")
    )
    assert service["policyTypes"] == redis["policyTypes"] == ["Ingress", "Egress"]
    assert redis["egress"] == []
    (into_redis,) = redis["ingress"]
    assert [list(peer) for peer in into_redis["from"]] == [["podSelector"]]
    (into_service,) = service["ingress"]
    assert all("podSelector" in peer for peer in into_service["from"])
    assert {port["port"] for rule in service["egress"] for port in rule["ports"]} == {6379, 53}
    assert set(pods) - {"loader"} == {"plaudit", "plaudit-redis"}
