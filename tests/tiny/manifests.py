"""Manifests as written and as rendered, and what every pod of ours must be."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]
OVERLAYS = ("cpu", "gpu", "gpu-ensemble", "gpu-tensor-parallel", "production")
# What the restricted pod security standard lets a pod mount; images, from Kubernetes 1.31.
VOLUMES = {
    *("configMap", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected"),
    "secret",
}


def load(*paths: Path) -> list[Manifest]:
    return [doc for path in paths for doc in yaml.safe_load_all(path.read_text())]


@cache
def render(folder: Path) -> list[Manifest]:
    """What ``kubectl apply -k`` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, so kustomizations are read but not rendered")
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def quantity(text: str) -> int:
    """Bytes, of Kubernetes (Gi) or Redis (gb): both mean powers of two here."""
    found = re.fullmatch(r"(\d+)([mg])[ib]", text.lower())
    assert found, text
    return int(found[1]) * {"m": 2**20, "g": 2**30}[found[2]]


def assert_restricted(name: str, pod: Manifest) -> None:
    assert pod["automountServiceAccountToken"] is False, name
    assert pod["securityContext"]["runAsNonRoot"] is True, name
    assert pod["securityContext"]["runAsUser"] > 0, name
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
    for each in containers(pod):
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= VOLUMES, name


def assert_reserves_memory(name: str, pod: Manifest) -> None:
    for each in containers(pod):
        resources = each["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"], name
        assert "cpu" in resources["requests"], name
        assert "cpu" not in resources["limits"], name


def env(container: Manifest) -> dict[str, Manifest]:
    """Its environment by name."""
    return {entry["name"]: entry for entry in container["env"]}


def labels(doc: Manifest) -> Manifest:
    """Of the pods that it makes."""
    found: Manifest = doc["spec"]["template"]["metadata"]["labels"]
    return found
