"""The Jobs that train an ensemble and average it: valid, restricted, and true to the plan."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from manifests import Manifest, assert_reserves_memory, assert_restricted, containers, load

from training import settings
from training.ensemble import parser
from training.settings import EnsemblePlan


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "k8s" / "training"


@pytest.fixture(scope="module")
def kustomization(folder: Path) -> Manifest:
    return load(folder / "kustomization.yaml")[0]


@pytest.fixture(scope="module")
def manifests(folder: Path, kustomization: Manifest) -> dict[tuple[str, str], Manifest]:
    docs = load(*(folder / name for name in kustomization["resources"]))
    return {(doc["kind"], doc["metadata"]["name"]): doc for doc in docs}


@pytest.fixture(scope="module")
def plan(folder: Path) -> EnsemblePlan:
    return settings.load(EnsemblePlan, folder / "plan.yaml")


@pytest.fixture(scope="module")
def members(manifests: dict[tuple[str, str], Manifest]) -> Manifest:
    found: Manifest = manifests["Job", "plaudit-members"]["spec"]
    return found


@pytest.fixture(scope="module")
def average(manifests: dict[tuple[str, str], Manifest]) -> Manifest:
    found: Manifest = manifests["Job", "plaudit-average"]["spec"]
    return found


@pytest.fixture(scope="module")
def pods(members: Manifest, average: Manifest) -> dict[str, Manifest]:
    jobs = {"members": members, "average": average}
    return {name: job["template"]["spec"] for name, job in jobs.items()}


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_manifests_match_the_schema(
    folder: Path, kustomization: Manifest, tool: Callable[[str], str], version: str
) -> None:
    files = [folder / name for name in kustomization["resources"]]
    command = [tool("kubernetes-validate"), "--strict", "--kubernetes-version", version]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kustomize_gives_both_jobs_the_plan(folder: Path, plan: EnsemblePlan) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, so the kustomization is read but not rendered")
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    (made,) = [doc for doc in rendered if doc["kind"] == "ConfigMap"]
    assert yaml.safe_load(made["data"]["plan.yaml"])["out"] == str(plan.out)
    mounted = [
        volume["configMap"]["name"]
        for doc in rendered
        if doc["kind"] == "Job"
        for volume in doc["spec"]["template"]["spec"]["volumes"]
        if "configMap" in volume
    ]
    assert mounted == [made["metadata"]["name"]] * 2


def test_the_kustomization_forgets_no_file(folder: Path, kustomization: Manifest) -> None:
    files = {path.name for path in folder.glob("*.yaml")}
    (generated,) = kustomization["configMapGenerator"]
    named = {*kustomization["resources"], *generated["files"]}
    assert files - {"kustomization.yaml"} == named


def test_pods_are_restricted_and_reserve_what_they_need(pods: dict[str, Manifest]) -> None:
    for name, pod in pods.items():
        assert_restricted(name, pod)
        assert_reserves_memory(name, pod)
        assert pod["enableServiceLinks"] is False


def test_pods_run_as_the_user_of_the_image(root: Path, pods: dict[str, Manifest]) -> None:
    text = (root / "Dockerfile").read_text()
    for pod in pods.values():
        context = pod["securityContext"]
        assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in text
    (tag,) = {each["image"] for pod in pods.values() for each in containers(pod)}
    assert f"docker build -t {tag.partition(':')[0]} --build-arg EXTRA=training" in text


def test_each_index_is_a_member_of_the_plan(members: Manifest, plan: EnsemblePlan) -> None:
    assert members["completionMode"] == "Indexed"
    assert members["completions"] == len(plan.members)
    (container,) = members["template"]["spec"]["containers"]
    command, *words = container["args"]
    assert command == "ensemble"
    # The controller gives each container the variable, and the kubelet expands it.
    words = [word.replace("$(JOB_COMPLETION_INDEX)", "2") for word in words]
    assert parser().parse_args(words).member == 2


def test_a_member_is_started_again_but_not_for_what_is_refused(members: Manifest) -> None:
    assert members["backoffLimitPerIndex"] >= 1
    assert "backoffLimit" not in members
    assert members["template"]["spec"]["restartPolicy"] == "Never"
    disruption, refused = members["podFailurePolicy"]["rules"]
    assert disruption["action"] == "Ignore"
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert refused["action"] == "FailIndex"
    assert refused["onExitCodes"]["values"] == [2]  # plaudit.cli: a sentence of ours
    names = [each["name"] for each in members["template"]["spec"]["containers"]]
    assert refused["onExitCodes"]["containerName"] in names


def test_the_average_waits_for_the_members_and_is_of_all_of_them(
    average: Manifest, plan: EnsemblePlan
) -> None:
    (waiting,) = average["template"]["spec"]["initContainers"]
    assert parser().parse_args(waiting["args"][1:]).wait
    (container,) = average["template"]["spec"]["containers"]
    command, *words = container["args"]
    assert command == "warm"
    place = words.index("--out")
    assert words[:place] == [str(plan.member(i).out) for i in range(len(plan.members))]
    assert Path(words[place + 1]).parent == plan.out
    assert average["activeDeadlineSeconds"] > 0


def test_everything_a_plan_names_is_on_the_volume(
    pods: dict[str, Manifest], plan: EnsemblePlan, manifests: dict[tuple[str, str], Manifest]
) -> None:
    paths = [Path(plan.model), plan.out, plan.trunk_cache, *(one.path for one in plan.sources)]
    assert all(path.is_relative_to("/data") for path in paths)
    for pod in pods.values():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for each in containers(pod):
            mounts = {mount["mountPath"]: mount for mount in each["volumeMounts"]}
            claim = volumes[mounts["/data"]["name"]]["persistentVolumeClaim"]["claimName"]
            assert ("PersistentVolumeClaim", claim) in manifests
            assert mounts["/plan"]["readOnly"] is True
            if each["name"] != "average":
                assert each["args"][1] == "/plan/plan.yaml"


def test_training_talks_to_nobody(
    manifests: dict[tuple[str, str], Manifest], members: Manifest, average: Manifest
) -> None:
    spec = manifests["NetworkPolicy", "plaudit-training"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == spec["egress"] == []
    for job in (members, average):
        labels = job["template"]["metadata"]["labels"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()
