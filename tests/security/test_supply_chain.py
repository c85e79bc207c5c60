"""S22: what we hand out is our code and no more, and nothing is fetched by a name that can move."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"plaudit", "service", "training"}
# Kinds of files that the packages are of; a .pth would be run at every start of Python.
KINDS = {
    ".py", ".typed", ".css", ".html", ".js", ".svg", ".png", ".txt", ".md",
    ".json", ".yml", ".yaml", ".jsonl", ".jinja",
}  # fmt: skip
SECRET = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bplaudit_[A-Za-z0-9_-]{43}\b|\bAKIA[0-9A-Z]{16}\b"
    rb"|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bhf_[A-Za-z0-9]{34}\b"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built as for a release, without a network."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (made,) = out.glob("*.whl")
    return zipfile.ZipFile(made)


def test_the_wheel_has_our_packages_and_nothing_that_runs_by_itself(wheel: zipfile.ZipFile) -> None:
    paths = [PurePosixPath(name) for name in wheel.namelist()]
    assert len(paths) > 150
    (info,) = {path.parts[0] for path in paths} - PACKAGES
    assert re.fullmatch(r"plaudit-[\d.]+\.dist-info", info)
    for path in paths:
        assert not path.is_absolute()
        assert ".." not in path.parts
        if path.parts[0] != info:
            assert path.suffix in KINDS or path.name in ("LICENSE", "NOTICE"), path
            assert not {"tests", "conftest.py", "__pycache__", ".env"} & {*path.parts}, path
    names = {path.name for path in paths if path.parts[0] == info}
    assert names == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "LICENSE"}


def test_the_wheel_is_what_is_tracked_and_has_no_secret(wheel: zipfile.ZipFile) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    tracked = {*listed.stdout.splitlines()}
    for name in wheel.namelist():
        assert not SECRET.search(wheel.read(name)), name
        if tracked and name.partition("/")[0] in PACKAGES:
            assert name in tracked, f"{name} is in the wheel and not in git"
            assert wheel.read(name) == (ROOT / name).read_bytes()


def test_no_secret_is_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 2_000_000:
            assert not SECRET.search(path.read_bytes()), name


def test_workflows_run_nothing_by_a_name_that_can_move() -> None:
    """A tag of an action can be made to name other code; the digest of a commit cannot."""
    for path in (ROOT / ".github").rglob("*.y*ml"):
        for used in re.findall(r"^\s*-?\s*uses:\s*(\S+)", path.read_text(), re.MULTILINE):
            assert used.startswith("./") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used), path
