"""S22: the software bill of materials, made from the locks by a tool that is not ours."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

TARGETS = ("service", "training", "vllm")


def locked(root: Path, name: str) -> set[tuple[str, str]]:
    text = (root / "docker" / "requirements" / f"{name}.txt").read_text()
    pins = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    torch = re.findall(r"^(torch)==(\S+)", (root / "constraints.txt").read_text(), re.MULTILINE)
    return {
        (canonicalize_name(one), version)
        for one, version in [*pins, *(torch if name != "vllm" else [])]
    }


def test_it_lists_what_the_locks_pin_with_their_hashes(root: Path, tmp_path: Path) -> None:
    own = root / ".venv" / "sbom" / "bin"
    tool = shutil.which("cyclonedx-py", path=f"{own}:/usr/bin") or shutil.which("cyclonedx-py")
    if tool is None:
        pytest.skip("cyclonedx-py is not installed: make sbom sets it up")
    path = f"{Path(tool).parent}:/usr/bin:/bin"
    subprocess.run(
        ["sh", "docker/sbom.sh", str(tmp_path)], cwd=root, check=True, env={"PATH": path}
    )
    for name in TARGETS:
        made = json.loads((tmp_path / f"{name}.cdx.json").read_text())
        assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
        assert made["metadata"]["component"]["name"] == "plaudit"
        listed = {(canonicalize_name(c["name"]), c["version"]) for c in made["components"]}
        assert listed == locked(root, name)
        for component in made["components"]:
            assert component["purl"].startswith("pkg:pypi/")
            hashed = [ref for ref in component.get("externalReferences", []) if "hashes" in ref]
            assert hashed or component["name"] == "torch", component["name"]
