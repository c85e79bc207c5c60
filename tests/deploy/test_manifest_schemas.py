"""Every manifest, as written and as rendered, against the schema of its kind."""

import json
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml
from manifests import OVERLAYS, Manifest, env, load, render

from service import timings

KUSTOMIZE = "kustomize.config.k8s.io/"
# The oldest Kubernetes that the README names, and the newest that the schemas know.
VERSIONS = ("1.31", "1.37")


def is_of_kubernetes(doc: Manifest) -> bool:
    group = doc["apiVersion"].rpartition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and not group.startswith("gateway"))


def check(doc: Manifest, root: Path) -> None:
    _check(json.dumps(doc), root)


@cache
def _check(text: str, root: Path) -> None:
    """Once for what several overlays have alike: a schema of Kubernetes takes a while."""
    doc = json.loads(text)
    kind = doc["kind"].lower()
    if not is_of_kubernetes(doc):
        schema = json.loads((root / "tests" / "deploy" / "schemas" / f"{kind}.json").read_text())
        jsonschema.validate(doc, schema)
        return
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    for version in VERSIONS:
        kubernetes_validate.validate(doc, version, strict=True)


def patches(root: Path) -> set[Path]:
    """Parts of objects, which only count once they are rendered."""
    found = set()
    for path in (root / "k8s").glob("**/kustomization.yaml"):
        read = yaml.safe_load(path.read_text())
        found |= {path.parent / one["path"] for one in read.get("patches", []) if "path" in one}
    return found


def test_files_match_the_schema(root: Path) -> None:
    folder = root / "k8s"
    other = patches(root) | {
        folder / "components" / "prompt-affine" / "envoy.yaml",
        folder / "training" / "plan.yaml",
        folder / "checkov.yaml",
    }
    checked = [path for path in sorted(folder.glob("**/*.yaml")) if path not in other]
    for path in checked:
        for doc in load(path):
            if not doc["apiVersion"].startswith(KUSTOMIZE):
                check(doc, root)
    assert len(checked) > 30


def test_the_base_renders_by_itself_with_probes_and_resources(root: Path) -> None:
    docs = render(root / "k8s" / "base")
    for doc in docs:
        check(doc, root)
    found = {doc["kind"]: doc for doc in docs}
    assert found.keys() == {"ServiceAccount", "Deployment", "Service", "PodDisruptionBudget"}
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe", "resources"} <= container.keys()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_match_the_schema(root: Path, overlay: str) -> None:
    docs = render(root / "k8s" / "overlays" / overlay)
    assert len(docs) > 10
    for doc in docs:
        check(doc, root)


def test_the_containers_of_the_kserve_example_are_those_of_a_pod(root: Path) -> None:
    runtime, service = load(root / "k8s" / "examples" / "kserve.yaml")
    assert service["spec"]["predictor"]["enableServiceLinks"] is False
    keys = ("containers", "volumes")
    spec = {key: runtime["spec"][key] for key in keys}
    check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": spec}, root)


def test_under_kserve_a_pod_has_the_time_to_load_and_to_finish(root: Path) -> None:
    runtime, service = load(root / "k8s" / "examples" / "kserve.yaml")
    (container,) = runtime["spec"]["containers"]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= timings.START_SECONDS
    assert "lifecycle" not in container
    assert service["spec"]["predictor"]["terminationGracePeriodSeconds"] >= timings.STOP_SECONDS


def test_under_kserve_only_the_service_reads_its_keys_and_its_threads_are_those_asked_for(
    root: Path,
) -> None:
    runtime, service = load(root / "k8s" / "examples" / "kserve.yaml")
    keys, _ = runtime["spec"]["volumes"]
    assert keys["secret"]["defaultMode"] == 0o440
    (container,) = runtime["spec"]["containers"]
    user = container["securityContext"]["runAsUser"]
    assert service["spec"]["predictor"]["securityContext"] == {"fsGroup": user}
    threads = env(container)["OMP_NUM_THREADS"]["valueFrom"]["resourceFieldRef"]
    assert threads == {"resource": "requests.cpu"}


@pytest.mark.parametrize("kind", ["pod", "service"])
def test_the_key_of_a_monitor_is_asked_for_once_its_comment_is_none(root: Path, kind: str) -> None:
    path = root / "k8s" / "components" / f"{kind}-monitor" / f"{kind}monitor.yaml"
    before, mark, after = path.read_text().partition("      # authorization:\n")
    doc = yaml.safe_load(before + (mark + after).replace("# ", ""))
    check(doc, root)
    (endpoint,) = doc["spec"].get("endpoints") or doc["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"]["credentials"].keys() == {"name", "key"}


@pytest.mark.parametrize(
    ("kind", "spec", "slip"),
    [
        ("podmonitor", {"podMetricsEndpoints": [{"prot": "admin"}]}, "'prot' was unexpected"),
        ("servicemonitor", {"endpoints": []}, "[] should be non-empty"),
        ("scaledobject", {"minReplicas": 2}, "'minReplicas' was unexpected"),
        ("httproute", {"rules": [{"timeouts": {"request": "soon"}}]}, "'soon' does not match"),
        ("prometheusrule", {"groups": [{"name": "a", "rules": [{"record": "a"}]}]}, "'expr' is a"),
    ],
)
def test_the_schemas_see_a_slip(root: Path, kind: str, spec: Manifest, slip: str) -> None:
    schema = json.loads((root / "tests" / "deploy" / "schemas" / f"{kind}.json").read_text())
    errors = jsonschema.Draft202012Validator(schema["properties"]["spec"]).iter_errors(spec)
    assert any(slip in error.message for error in errors)
