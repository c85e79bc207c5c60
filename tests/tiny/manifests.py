"""Manifests as written, and what every pod of ours must be."""

from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
# What the restricted pod security standard lets a pod mount.
VOLUMES = {"configMap", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def load(*paths: Path) -> list[Manifest]:
    return [doc for path in paths for doc in yaml.safe_load_all(path.read_text())]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


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
