"""What every overlay promises of the pods it renders; one promise a test."""

import re
from pathlib import Path

import pytest
from manifests import (
    OVERLAYS,
    Manifest,
    assert_reserves_memory,
    assert_restricted,
    containers,
    load,
    quantity,
    render,
)

from service import timings

NO_SPARE_GPU = "gpu-tensor-parallel"


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def manifests(root: Path, overlay: str) -> dict[tuple[str, str], Manifest]:
    """The rendered objects by kind and name."""
    docs = render(root / "k8s" / "overlays" / overlay)
    return {(doc["kind"], doc["metadata"]["name"]): doc for doc in docs}


@pytest.fixture(scope="module")
def deployment(manifests: dict[tuple[str, str], Manifest]) -> Manifest:
    found: Manifest = manifests["Deployment", "plaudit"]["spec"]
    return found


@pytest.fixture(scope="module")
def pods(manifests: dict[tuple[str, str], Manifest]) -> dict[str, Manifest]:
    """Every pod spec by the name of its Deployment."""
    found = manifests.items()
    return {
        name: doc["spec"]["template"]["spec"] for (kind, name), doc in found if kind == "Deployment"
    }


@pytest.fixture(scope="module")
def pod(pods: dict[str, Manifest]) -> Manifest:
    return pods["plaudit"]


@pytest.fixture(scope="module")
def container(pod: Manifest) -> Manifest:
    (found,) = pod["containers"]
    made: Manifest = found
    return made


def env(container: Manifest) -> dict[str, Manifest]:
    return {entry["name"]: entry for entry in container["env"]}


def labels(doc: Manifest) -> Manifest:
    found: Manifest = doc["spec"]["template"]["metadata"]["labels"]
    return found


def test_a_rollout_takes_no_capacity_away_where_there_is_a_spare_node(
    overlay: str, deployment: Manifest
) -> None:
    opposite = {"maxSurge": 0, "maxUnavailable": 1}
    promised = opposite if overlay == NO_SPARE_GPU else {"maxSurge": 1, "maxUnavailable": 0}
    assert deployment["strategy"]["rollingUpdate"] == promised


def test_a_new_pod_must_stay_ready_before_the_next_one_goes(deployment: Manifest) -> None:
    assert deployment["minReadySeconds"] >= 10


def test_few_old_revisions_are_kept(pods: dict[str, Manifest], deployment: Manifest) -> None:
    assert 1 <= deployment["revisionHistoryLimit"] <= 5


def test_a_slow_model_load_is_no_failed_rollout(deployment: Manifest, container: Manifest) -> None:
    startup = container["startupProbe"]
    budget = startup["periodSeconds"] * startup["failureThreshold"]
    assert budget >= timings.START_SECONDS
    assert deployment["progressDeadlineSeconds"] > budget + deployment["minReadySeconds"]


def test_ready_and_alive_are_different_questions_on_the_admin_port(container: Manifest) -> None:
    asked = {
        probe: (container[probe]["httpGet"]["path"], container[probe]["httpGet"]["port"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert asked == {
        "startupProbe": ("/readyz", "admin"),
        "readinessProbe": ("/readyz", "admin"),
        "livenessProbe": ("/livez", "admin"),
    }


def test_a_pod_that_is_not_ready_is_left_alone_at_once_and_restarted_late(
    container: Manifest,
) -> None:
    ready, live = container["readinessProbe"], container["livenessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] <= 5
    assert live["periodSeconds"] * live["failureThreshold"] >= 100


def test_the_admin_port_of_the_probes_is_the_one_that_the_service_opens(
    container: Manifest,
) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert env(container)["PLAUDIT_ADMIN_PORT"]["value"] == str(ports["admin"])
    assert env(container)["PLAUDIT_ADMIN_HOST"]["value"] == "0.0.0.0"


def test_a_pod_has_time_to_be_forgotten_and_to_finish(pod: Manifest, container: Manifest) -> None:
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep >= timings.FORGET_SECONDS
    promised = sleep + timings.DRAIN_SECONDS + timings.CLOSE_SECONDS
    assert pod["terminationGracePeriodSeconds"] >= promised


def test_pods_are_restricted(pods: dict[str, Manifest]) -> None:
    for name, each in pods.items():
        assert_restricted(name, each)


def test_users_are_far_from_those_of_the_node(pods: dict[str, Manifest]) -> None:
    # Valkey's image has a user of its own.
    users = {name: each["securityContext"]["runAsUser"] for name, each in pods.items()}
    assert users.pop("plaudit-redis") == 999
    assert all(user > 10000 for user in users.values()), users


def test_the_pod_runs_as_the_user_of_the_image(root: Path, pod: Manifest) -> None:
    context = pod["securityContext"]
    user = f"USER {context['runAsUser']}:{context['runAsGroup']}\n"
    assert user in (root / "Dockerfile").read_text()


def test_every_pod_has_an_account_of_its_own_without_a_token(
    manifests: dict[tuple[str, str], Manifest], pods: dict[str, Manifest]
) -> None:
    for name, each in pods.items():
        assert each["serviceAccountName"] == name
        assert manifests["ServiceAccount", name]["automountServiceAccountToken"] is False


def test_what_is_written_goes_to_bounded_memory(pod: Manifest, container: Manifest) -> None:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    scratch = [volumes[mounts[path]["name"]]["emptyDir"] for path in ("/tmp", "/dev/shm")]
    assert {each["medium"] for each in scratch} == {"Memory"}
    held = sum(quantity(each["sizeLimit"]) for each in scratch)
    assert held < quantity(container["resources"]["limits"]["memory"]) / 2
    assert all(m.get("readOnly") for path, m in mounts.items() if path not in ("/tmp", "/dev/shm"))


def test_memory_is_reserved_and_cpu_is_not_capped(pods: dict[str, Manifest]) -> None:
    for name, each in pods.items():
        assert_reserves_memory(name, each)


def test_disk_is_bounded(pods: dict[str, Manifest]) -> None:
    for name, each in pods.items():
        for one in containers(each):
            resources = one["resources"]
            assert "ephemeral-storage" in resources["requests"], name
            assert "ephemeral-storage" in resources["limits"], name


def test_a_gpu_is_in_the_limits_and_its_nodes_are_asked_for(
    overlay: str, pod: Manifest, container: Manifest
) -> None:
    gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
    assert bool(gpus) == (overlay != "cpu")
    if gpus:
        assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
        assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/gpu"]
        assert container["image"].split(":")[0] in ("plaudit-cuda", "plaudit-vllm")
    parallel = env(container).get("PLAUDIT_TENSOR_PARALLEL", {"value": str(gpus)})
    assert parallel["value"] == str(gpus)


def test_models_are_there_before_the_start_and_cannot_be_changed(
    manifests: dict[tuple[str, str], Manifest], pod: Manifest, container: Manifest
) -> None:
    (models,) = [volume for volume in pod["volumes"] if volume["name"] == "models"]
    if "image" in models:
        assert re.search(r"@sha256:[0-9a-f]{64}$", models["image"]["reference"])
    else:
        claim = models["persistentVolumeClaim"]
        assert claim["readOnly"] is True
        assert ("PersistentVolumeClaim", claim["claimName"]) in manifests
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "models"]
    assert (mount["mountPath"], mount["readOnly"]) == ("/models", True)


def test_a_disruption_takes_one_replica_and_never_waits_for_a_broken_one(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    budgets = [doc["spec"] for (kind, _), doc in manifests.items() if kind == "PodDisruptionBudget"]
    assert budgets
    for spec in budgets:
        assert spec["maxUnavailable"] == 1
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_replicas_are_spread_over_nodes_and_zones(pod: Manifest) -> None:
    spread = {each["topologyKey"] for each in pod["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    soft = pod["affinity"]["podAntiAffinity"]
    assert list(soft) == ["preferredDuringSchedulingIgnoredDuringExecution"]


def test_scoring_goes_before_batch_work_and_evicts_nobody(
    manifests: dict[tuple[str, str], Manifest], pod: Manifest
) -> None:
    priority = manifests["PriorityClass", pod["priorityClassName"]]
    assert priority["value"] > 0
    assert priority["preemptionPolicy"] == "Never"
    assert priority["globalDefault"] is False


def test_replicas_are_several_and_one_thing_decides_on_their_number(
    manifests: dict[tuple[str, str], Manifest], deployment: Manifest
) -> None:
    scalers = [
        doc["spec"]
        for (kind, _), doc in manifests.items()
        if kind in ("HorizontalPodAutoscaler", "ScaledObject")
    ]
    fewest = [spec.get("minReplicas", spec.get("minReplicaCount")) for spec in scalers]
    if "replicas" in deployment:
        fewest.append(deployment["replicas"])
    assert len(fewest) == 1
    assert fewest[0] >= 2


def test_nothing_goes_in_or_out_but_what_is_named(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    default = manifests["NetworkPolicy", "plaudit-default"]["spec"]
    assert default["policyTypes"] == ["Ingress", "Egress"]
    assert not default.get("ingress")
    assert not default.get("egress")
    chosen = default["podSelector"]["matchLabels"].items()
    for (kind, name), doc in manifests.items():
        if kind == "Deployment":
            assert chosen <= labels(doc).items()
            assert ("NetworkPolicy", name) in manifests


def test_only_callers_reach_the_scores_and_only_prometheus_the_metrics(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    rules = manifests["NetworkPolicy", "plaudit"]["spec"]["ingress"]
    allowed = [
        (port["port"], peer["podSelector"]["matchLabels"])
        for rule in rules
        for port in rule["ports"]
        for peer in rule["from"]
    ]
    assert allowed == [
        ("http", {"plaudit-client": "true"}),
        ("admin", {"app.kubernetes.io/name": "prometheus"}),
    ]


def test_the_service_itself_reaches_redis_and_dns_only(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    cache, names = manifests["NetworkPolicy", "plaudit"]["spec"]["egress"]
    assert [list(peer) for peer in cache["to"]] == [["podSelector"]]
    assert [port["port"] for port in cache["ports"]] == [6379]
    assert {port["port"] for port in names["ports"]} == {53}


def test_redis_is_reached_by_the_service_only_and_reaches_nothing(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    spec = manifests["NetworkPolicy", "plaudit-redis"]["spec"]
    (rule,) = spec["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "plaudit"}}}]
    assert not spec["egress"]


def test_the_engine_opens_no_port_of_its_own(container: Manifest) -> None:
    assert [port["name"] for port in container["ports"]] == ["http", "admin"]


def test_metrics_are_scraped_in_one_way(manifests: dict[tuple[str, str], Manifest]) -> None:
    monitors = [kind for kind, _ in manifests if kind in ("PodMonitor", "ServiceMonitor")]
    template = manifests["Deployment", "plaudit"]["spec"]["template"]["metadata"]
    annotated = template.get("annotations", {}).get("prometheus.io/scrape") == "true"
    assert len(monitors) + annotated == 1
    if annotated:
        assert template["annotations"]["prometheus.io/port"] == "9090"


def test_selectors_find_the_pods(manifests: dict[tuple[str, str], Manifest]) -> None:
    found = [labels(doc).items() for (kind, _), doc in manifests.items() if kind == "Deployment"]
    for (kind, name), doc in manifests.items():
        selector = doc.get("spec", {}).get("selector") or doc.get("spec", {}).get("podSelector")
        if selector:
            wanted = selector if kind == "Service" else selector["matchLabels"]
            assert any(wanted.items() <= each for each in found), (kind, name)


def test_a_service_leads_to_ports_of_its_pods(
    manifests: dict[tuple[str, str], Manifest], pods: dict[str, Manifest]
) -> None:
    for (kind, _), doc in manifests.items():
        if kind != "Service":
            continue
        (each,) = pods[doc["spec"]["selector"]["app.kubernetes.io/name"]]["containers"]
        known = {port["name"]: port["containerPort"] for port in each["ports"]}
        for port in doc["spec"]["ports"]:
            assert known[port["targetPort"]] == port["port"]


def test_no_service_becomes_a_setting(pods: dict[str, Manifest]) -> None:
    """A Service named plaudit would otherwise put PLAUDIT_PORT=tcp://... into the environment."""
    assert all(pod["enableServiceLinks"] is False for pod in pods.values())


def test_environment_variables_are_settings(container: Manifest, settings: set[str]) -> None:
    assert {name for name in env(container) if name.startswith("PLAUDIT_")} <= settings


def test_no_secret_is_written_down(
    manifests: dict[tuple[str, str], Manifest], pods: dict[str, Manifest]
) -> None:
    assert not any(kind == "Secret" for kind, _ in manifests)
    for pod in pods.values():
        for each in containers(pod):
            for entry in each.get("env", []):
                if re.search("PASSWORD|KEY|SECRET|TOKEN|REDIS_URL", entry["name"]):
                    assert entry["name"].endswith("_FILE") or "valueFrom" in entry


def test_secrets_are_those_that_the_script_makes(root: Path, pods: dict[str, Manifest]) -> None:
    script = (root / "k8s" / "secrets.sh").read_text()
    entries = [
        entry.get("valueFrom", {}).get("secretKeyRef", {})
        for pod in pods.values()
        for each in containers(pod)
        for entry in each.get("env", [])
    ]
    named = {entry["name"] for entry in entries if entry}
    volumes = [volume for pod in pods.values() for volume in pod["volumes"]]
    named |= {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}
    assert named == {"plaudit-api-keys", "plaudit-redis"}
    for name in named:
        assert f"kubectl create secret generic {name} --from-file=secrets/{name}\n" in script


def test_images_are_pinned_to_a_version(pods: dict[str, Manifest]) -> None:
    images = [each["image"] for pod in pods.values() for each in containers(pod)]
    assert all(re.search(r":[\w-]*v?\d+\.\d+", image) for image in images), images


def test_everything_is_labelled_as_a_part_of_plaudit(
    manifests: dict[tuple[str, str], Manifest],
) -> None:
    for doc in manifests.values():
        assert doc["metadata"]["labels"]["app.kubernetes.io/part-of"] == "plaudit"
        assert "namespace" not in doc["metadata"]
        # A selector that gains a label cannot be applied over an older release.
        if doc["kind"] in ("Deployment", "Service"):
            assert "part-of" not in str(doc["spec"]["selector"])


def test_every_kustomization_names_every_file_beside_it(root: Path) -> None:
    for path in sorted((root / "k8s").glob("*/**/kustomization.yaml")):
        text = path.read_text()
        beside = {each.name for each in path.parent.glob("*.yaml")} - {path.name}
        assert all(f"- {name}\n" in text or f"path: {name}\n" in text for name in beside), path


def test_every_component_is_in_an_overlay_or_named_in_the_readme(root: Path) -> None:
    used = "".join(
        (root / "k8s" / "overlays" / name / "kustomization.yaml").read_text() for name in OVERLAYS
    )
    readme = (root / "k8s" / "README.md").read_text()
    for folder in (root / "k8s" / "components").iterdir():
        assert f"components/{folder.name}\n" in used or f"`{folder.name}`" in readme, folder.name


def test_the_loader_fills_the_volume_of_the_service_and_is_restricted(root: Path) -> None:
    (loader,) = load(root / "k8s" / "loader.yaml")
    assert_restricted("loader", loader["spec"])
    assert_reserves_memory("loader", loader["spec"])
    (pvc,) = load(root / "k8s" / "components" / "model-pvc" / "pvc.yaml")
    claims = [v["persistentVolumeClaim"] for v in loader["spec"]["volumes"]]
    assert claims == [{"claimName": pvc["metadata"]["name"]}]
