"""What the manifests name is there: settings, secrets, images, labels, files."""

import re
from pathlib import Path

from manifests import (
    OVERLAYS,
    Manifest,
    assert_reserves_memory,
    assert_restricted,
    containers,
    env,
    load,
)


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
    assert named == {"plaudit-api-keys", "plaudit-redis", "plaudit-redis-tls"}
    for name in named:
        assert f"kubectl create secret generic {name} --from-file=secrets/{name}\n" in script


def test_images_are_pinned_to_a_version(pods: dict[str, Manifest]) -> None:
    images = [each["image"] for pod in pods.values() for each in containers(pod)]
    assert all(re.search(r":[\w-]*v?\d+\.\d+", image) for image in images), images


def test_an_overlay_runs_one_image_of_ours(overlay: str, pods: dict[str, Manifest]) -> None:
    """A user's kustomization renames that one to a registry's."""
    images = {each["image"] for pod in pods.values() for each in containers(pod)}
    ours = {image.partition(":")[0] for image in images if image.startswith("plaudit")}
    image_of = {"cpu": "plaudit", "gpu-tensor-parallel": "plaudit-vllm"}
    assert ours == {image_of.get(overlay, "plaudit-cuda")}


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
