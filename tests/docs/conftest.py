"""What the pages talk about, in small: a directory with ``runs/demo``, and a server of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import shell as shells
from redis_process import serving_redis
from served_process import ServedProcess


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, members: list[Path]) -> Path:
    """The directory that commands of the pages are run in."""
    root = tmp_path_factory.mktemp("demo")
    runs = root / "runs/demo"
    for name, source in zip(["member-0", "member-1", "member-2"], members, strict=True):
        shutil.copytree(source, runs / name)
    shutil.copytree(members[0], runs / "warm")
    (runs / "ensemble.yaml").write_text("members: [member-0, member-1, member-2]\n")
    shutil.copytree(members[1], root / "runs/helpful")
    shutil.copytree(members[2], root / "runs/harmless")
    (root / "balanced.yaml").write_text(
        "objectives:\n"
        "  helpful: {member: runs/helpful, weight: 1.0}\n"
        "  harmless: {member: runs/harmless, weight: 0.5}\n"
    )
    return root


@pytest.fixture(scope="session")
def served(demo: Path) -> Iterator[str]:
    """The URL of ``plaudit serve`` with what the pages ask: ``warm``, ``ensemble``, ``balanced``
    and the floor that docs/compat.md speaks of."""
    models = [demo / "runs/demo/warm", demo / "runs/demo/ensemble.yaml", demo / "balanced.yaml"]
    flags = ["--compat-model", "ensemble", "--compat-on-error", "openrlhf=floor:-5"]
    server = ServedProcess(models, *flags)
    yield server.wait()
    server.kill()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_redis(tmp_path_factory.mktemp("redis"), "--save", "") as server:
        yield server.url


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[shells.Shell]:
    """Runs blocks of the pages; ``plaudit`` and ``python`` start at once in it."""
    with shells.opened(tmp_path_factory.mktemp("programs")) as found:
        yield found


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("long"))
