"""The kustomizations of k8s/README.md, rendered as a user's own, in a folder beside k8s/."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from manifests import Manifest, containers, env, render

FIRST_LINE = "# rewards/kustomization.yaml"
Render = Callable[..., Manifest]


@pytest.fixture(scope="module")
def written(root: Path) -> list[Manifest]:
    """The first is whole, each other is an addition to it."""
    text = (root / "k8s" / "README.md").read_text()
    blocks = re.findall(rf"```yaml\n{FIRST_LINE}.*?\n(.*?)```", text, re.DOTALL)
    return [
        yaml.safe_load(block.replace("<your registry>", "registry.example")) for block in blocks
    ]


@pytest.fixture
def rendered(root: Path, tmp_path: Path, written: list[Manifest]) -> Callable[..., list[Manifest]]:
    """``rendered(word, overlay)``: all objects under the README's kustomization with the addition
    that has this word."""

    def made(word: str, overlay: str) -> list[Manifest]:
        whole, *additions = written
        (addition,) = [one for one in additions if word in str(one)] if word else [{}]
        (tmp_path / "k8s").symlink_to(root / "k8s")
        own = tmp_path / "rewards"
        own.mkdir()
        resources = {"resources": [f"../k8s/overlays/{overlay}"]}
        (own / "kustomization.yaml").write_text(yaml.safe_dump(whole | resources | addition))
        return render(own)

    return made


@pytest.fixture
def pod(rendered: Callable[..., list[Manifest]]) -> Render:
    """``pod(word)``: the service's pods among them."""

    def made(word: str, overlay: str = "gpu") -> Manifest:
        found = {(doc["kind"], doc["metadata"]["name"]): doc for doc in rendered(word, overlay)}
        spec: Manifest = found["Deployment", "plaudit"]["spec"]["template"]["spec"]
        return spec

    return made


def test_the_first_is_whole(written: list[Manifest]) -> None:
    assert written[0]["resources"] == ["../k8s/overlays/gpu"]
    assert len(written) == 5


@pytest.mark.parametrize("overlay", ["gpu", "gpu-ensemble", "production"])
def test_every_image_of_ours_comes_from_the_registry(overlay: str, pod: Render) -> None:
    images = {each["image"] for each in containers(pod("", overlay))}
    assert images == {"registry.example/plaudit-cuda:0.1.0"}


def test_models_from_an_image(pod: Render) -> None:
    (models,) = [one for one in pod("<digest>", "production")["volumes"] if one["name"] == "models"]
    assert models["image"]["reference"] == "registry.example/plaudit-models@sha256:<digest>"
    assert models["image"]["pullPolicy"] == "IfNotPresent"


def test_a_new_checkpoint_keeps_the_name_of_the_old(pod: Render) -> None:
    command, path, *options = pod("round-2")["containers"][0]["args"]
    assert (command, Path(path).name, options) == ("serve", "warm", ["--host", "0.0.0.0"])
    assert Path(path).parent != Path("/models")


def test_a_setting(pod: Render, settings: set[str]) -> None:
    (service,) = pod("MAX_BATCH")["containers"]
    assert env(service)["PLAUDIT_MAX_BATCH_TOKENS"]["value"] == "16384"
    assert "PLAUDIT_MAX_BATCH_TOKENS" in settings
    assert service["resources"]["limits"] == {
        "memory": "16Gi",
        "ephemeral-storage": "1Gi",
        "nvidia.com/gpu": 1,
    }


def test_what_an_operator_selects_by_a_label_has_it(
    rendered: Callable[..., list[Manifest]],
) -> None:
    docs = rendered("labels/release", "production")
    labels = {doc["kind"]: doc["metadata"].get("labels", {}) for doc in docs}
    labelled = {kind for kind, each in labels.items() if "release" in each}
    assert labelled == {"PodMonitor", "PrometheusRule"}
