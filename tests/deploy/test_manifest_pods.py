"""What every overlay promises of the pods it renders; one promise a test."""

import re
from pathlib import Path

from manifests import Manifest, assert_reserves_memory, assert_restricted, containers, env, quantity

from service import timings

NO_SPARE_GPU = "gpu-tensor-parallel"


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
    assert env(container)["PLAUDIT_OPEN_METRICS"]["value"] == "true"  # NetworkPolicies guard it


def test_a_pod_has_time_to_be_forgotten_and_to_finish(pod: Manifest, container: Manifest) -> None:
    """The server does both by itself; a sleep before the signal would take time from it."""
    assert "lifecycle" not in container
    assert "PLAUDIT_DRAIN_DELAY_SECONDS" not in env(container)
    assert pod["terminationGracePeriodSeconds"] >= timings.STOP_SECONDS


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


def test_a_gpu_is_in_the_limits_and_its_nodes_are_tolerated(
    overlay: str, pod: Manifest, container: Manifest
) -> None:
    gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
    assert bool(gpus) == (overlay != "cpu")
    if gpus:
        assert "nodeSelector" not in pod  # labels of nodes are not the device plugin's
        assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/gpu"]
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
    fewest = [
        *(doc["spec"]["minReplicas"] for doc in of_kind(manifests, "HorizontalPodAutoscaler")),
        *map(fewest_of, of_kind(manifests, "ScaledObject")),
        *([deployment["replicas"]] if "replicas" in deployment else []),
    ]
    assert len(fewest) == 1
    assert fewest[0] >= 2


def of_kind(manifests: dict[tuple[str, str], Manifest], wanted: str) -> list[Manifest]:
    return [doc for (kind, _), doc in manifests.items() if kind == wanted]


def fewest_of(scaled: Manifest) -> int:
    """Of an object of KEDA. One that is paused without a number decides on none: the API's 1."""
    annotations = scaled["metadata"].get("annotations", {})
    if annotations.get("autoscaling.keda.sh/paused") == "true":
        return 1
    paused = annotations.get("autoscaling.keda.sh/paused-replicas")
    return int(paused or scaled["spec"]["minReplicaCount"])
