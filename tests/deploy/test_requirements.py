"""What the image installs: every distribution at one version, with the hashes it must have."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCKS = ("service", "training", "vllm", "build")
# Of the index that torch is taken from, and of its CUDA build.
OUTSIDE = re.compile(r"torch|triton|nvidia-.*|cuda-.*")


def locked(root: Path, name: str) -> dict[str, tuple[str, list[str]]]:
    """(version, hashes) by distribution."""
    text = (root / "docker" / "requirements" / f"{name}.txt").read_text()
    found = {}
    for entry in text.replace("\\\n", " ").splitlines():
        pin, *hashes = entry.split()
        distribution, version = pin.split("==")
        found[canonicalize_name(distribution)] = (version, hashes)
    return found


def pins(root: Path) -> dict[str, str]:
    lines = (root / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==", 1) for line in lines if "==" in line]
    return {canonicalize_name(name): version for name, version in pairs}


def closure(wanted: list[str]) -> set[str]:
    """All that these requirements lead to, by what is installed here, on the image's platform."""
    environment = {**default_environment(), "sys_platform": "linux", "platform_system": "Linux"}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in wanted]
    while waiting:
        one = waiting.pop()
        for extra in ("", *one.extras):
            name = canonicalize_name(one.name)
            if OUTSIDE.fullmatch(name) or (name, extra) in seen:
                continue
            seen.add((name, extra))
            needs = [Requirement(text) for text in requires(name) or []]
            marked = {**environment, "extra": extra}
            waiting += [each for each in needs if not each.marker or each.marker.evaluate(marked)]
    return {name for name, _ in seen}


@pytest.mark.parametrize("name", LOCKS)
def test_every_distribution_has_its_hashes(root: Path, name: str) -> None:
    for distribution, (version, hashes) in locked(root, name).items():
        assert Version(version)
        assert hashes, distribution
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes)


@pytest.mark.parametrize("name", ["service", "training"])
def test_versions_are_the_tested_ones(root: Path, name: str) -> None:
    tested = pins(root)
    for distribution, (version, _) in locked(root, name).items():
        assert tested.get(distribution, version) == version, (
            f"{distribution}: run sh docker/lock.sh"
        )


@pytest.mark.parametrize(
    ("name", "extras"), [("service", ("service", "otel")), ("training", ("training",))]
)
def test_the_lock_is_what_pyproject_leads_to(
    root: Path, name: str, extras: tuple[str, ...]
) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    of_extras = [one for extra in extras for one in project["optional-dependencies"][extra]]
    try:
        needed = closure([*project["dependencies"], *of_extras, *torch_on_a_cpu()])
    except PackageNotFoundError as missing:
        pytest.skip(f"{missing} is not installed here, so that its requirements are not known")
    assert set(locked(root, name)) == needed, "run sh docker/lock.sh"


def torch_on_a_cpu() -> list[str]:
    """What torch needs besides its CUDA build's own, without what other extras of it ask for."""
    needs = [Requirement(text) for text in requires("torch") or []]
    marked = {**default_environment(), "extra": ""}
    return [str(one) for one in needs if not one.marker or one.marker.evaluate(marked)]


@pytest.mark.parametrize("name", ["service", "training"])
def test_torch_is_left_to_the_index_of_its_build(root: Path, name: str) -> None:
    assert not [each for each in locked(root, name) if OUTSIDE.fullmatch(each)]


def test_vllm_brings_a_torch_of_its_own(root: Path) -> None:
    assert {"vllm", "torch", "fastapi", "prometheus-client"} <= set(locked(root, "vllm"))


def test_the_torch_of_vllm_is_one_of_the_default_index_with_its_cuda_libraries(root: Path) -> None:
    found = locked(root, "vllm")
    local = [f"{name}=={version}" for name, (version, _) in found.items() if Version(version).local]
    assert not local, "another index has these: run sh docker/lock.sh"
    assert any(re.fullmatch(r"nvidia-nccl-cu\d+", name) for name in found)


def test_no_index_is_named(root: Path) -> None:
    for path in (root / "docker" / "requirements").iterdir():
        assert "://" not in path.read_text()


def test_constraints_pin_every_dependency_of_whoever_develops_or_runs_it(root: Path) -> None:
    """Else a new release of something far below would be installed unseen."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    apart = {"vllm", "wandb"}  # vLLM has its own pins; wandb is for its users to choose
    wanted = [one for extra in extras.keys() - apart for one in extras[extra]]
    try:
        needed = closure([*project["dependencies"], *wanted, *torch_on_a_cpu()])
    except PackageNotFoundError as missing:
        pytest.skip(f"{missing} is not installed here, so that its requirements are not known")
    # Of torch, and pinned with hashes where the image installs it.
    assert needed - pins(root).keys() <= {"setuptools"} & locked(root, "service").keys()
