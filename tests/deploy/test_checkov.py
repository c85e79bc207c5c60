"""Best practice by checkov, which has an environment of its own: make check-manifests."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from manifests import OVERLAYS, render


def test_a_check_that_is_left_out_says_why(root: Path) -> None:
    text = (root / "k8s" / "checkov.yaml").read_text()
    left_out = yaml.safe_load(text)["skip-check"]
    assert re.findall(r"  - (\w+)  # \S.{20,}", text) == left_out


def test_checkov_finds_nothing_else(root: Path, tmp_path: Path) -> None:
    own = root / ".venv" / "checkov" / "bin" / "checkov"
    checkov = str(own) if own.exists() else shutil.which("checkov")
    if checkov is None:
        pytest.skip("checkov is not installed: make check-manifests sets it up")
    folders = [*(root / "k8s" / "overlays" / name for name in OVERLAYS), root / "k8s" / "training"]
    for folder in folders:
        (tmp_path / f"{folder.name}.yaml").write_text(yaml.safe_dump_all(render(folder)))
    command = [checkov, "--config-file", "k8s/checkov.yaml", "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"Passed checks: (\d+), Failed checks: 0", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) > 500
