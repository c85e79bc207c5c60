"""What the image runs, as the image runs it: read-only tree, its user, no capability, /tmp only.

The environment is the one that runs the tests. ``make image-test`` makes an empty one by the
Dockerfile's own steps, and names it in PLAUDIT_IMAGE.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest

from plaudit.client import RewardClient
from plaudit.client.errors import DeadlineExceeded
from service import timings
from training.service_process import free_port

MADE = os.environ.get("PLAUDIT_IMAGE")
# Mounts, in a namespace of its own: everything read-only, models and password file as in the image,
# and an empty /tmp. Then the user's command, without a privilege to get one back.
INSIDE = """
set -e
mount --make-rprivate /
if [ "${3#/root/}" != "$3" ]; then  # a Python of root's own: show it without the rest of /root
  mount --bind "$3" /media
  mount -t tmpfs -o mode=755 tmpfs /root
  mkdir -p "$3"
  mount --move /media "$3"
fi
mount --bind "$1" /mnt
mount --bind "$2" /etc/passwd
mount -o remount,bind,ro /mnt
mount -o remount,bind,ro /
mount -t tmpfs -o mode=1777,size=1g tmpfs /tmp
cd /tmp
shift 3
exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all \
    --inh-caps=-all --ambient-caps=-all env -i "$@"
"""


@dataclass
class Running:
    process: subprocess.Popen[str]
    port: int
    admin: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def status(self) -> dict[str, str]:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """Readable for everybody, as docs/operations.md asks."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_checkpoint, folder / "warm")
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def image_environment(root: Path) -> dict[str, str]:
    """ENV of the Dockerfile's last stage."""
    text = (root / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    found = dict(word.split("=", 1) for word in block.replace("\\\n", " ").split())
    python = Path(MADE or sys.prefix)
    found["PATH"] = f"{python / 'bin'}:/usr/bin:/bin"
    found["PLAUDIT_DEVICE"] = "cpu"
    return found | ({} if MADE else {"PYTHONPATH": str(root)})


@pytest.fixture(scope="module")
def service(
    root: Path,
    models: Path,
    image_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    skip_where_it_cannot_be_shut_in()
    port, admin = free_port(), free_port()
    folder = tmp_path_factory.mktemp("image")
    passwd = folder / "passwd"
    passwd.write_text("plaudit:x:10001:10001::/home/plaudit:/usr/sbin/nologin\n")
    given = image_environment | {
        "PLAUDIT_PORT": str(port),
        "PLAUDIT_ADMIN_PORT": str(admin),
        "PLAUDIT_ADMIN_HOST": "0.0.0.0",
        "PLAUDIT_OPEN_METRICS": "true",
        "PLAUDIT_API_KEYS": "a-key",
        "OMP_NUM_THREADS": "1",
    }
    variables = [f"{name}={value}" for name, value in given.items()]
    words = ["unshare", "--mount", "sh", "-c", INSIDE, "sh", str(models), str(passwd), base()]
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*words, *variables, *entry(root)], stdout=out, stderr=out, text=True
        )
    running = Running(process, port, admin, log)
    try:
        wait(running)
        yield running
    finally:
        process.kill()
        process.wait()


def entry(root: Path) -> list[str]:
    """ENTRYPOINT and CMD, with the models where the test has them."""
    text = (root / "Dockerfile").read_text()
    lines = [
        re.findall(rf"^{name} (\[.*\])$", text, re.MULTILINE)[-1] for name in ("ENTRYPOINT", "CMD")
    ]
    words: list[str] = [word for line in lines for word in json.loads(line)]
    return [word.replace("/models", "/mnt") for word in words]


def base() -> str:
    """Where the interpreter of the environment is installed."""
    command = [f"{MADE or sys.prefix}/bin/python", "-c", "import sys; print(sys.base_prefix)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def wait(running: Running) -> None:
    """Until it scores; a process that ended says why at once."""
    with RewardClient(running.url) as client:
        for _ in range(timings.START_SECONDS):
            assert running.process.poll() is None, running.log.read_text()
            with suppress(DeadlineExceeded):
                client.wait_ready(1)
                return
    pytest.fail(f"not ready in time: {running.log.read_text()}")


def skip_where_it_cannot_be_shut_in() -> None:
    missing = [name for name in ("unshare", "setpriv", "mount") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and util-linux; missing: {missing or 'root'}")
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "--make-rprivate", "/"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"no mount namespaces here: {tried.stderr.decode().strip()}")
    for path in (MADE or sys.prefix, str(Path(__file__).parent)):
        if Path(path).is_relative_to("/tmp"):
            pytest.skip(f"{path} would lie under the empty /tmp that the image has")
        words = ["setpriv", "--reuid", "10001", "--clear-groups", "test", "-r", path]
        if subprocess.run(words, check=False).returncode:
            pytest.skip(f"the image's user cannot read {path}")


def test_it_scores(service: Running) -> None:
    with RewardClient(service.url, api_key="a-key") as client:
        found = client.score([("Is it read-only?", "It is."), ("And?", "No harm.")])
    assert all(reward is not None for reward in found.rewards)


def test_it_has_the_user_of_the_image_and_no_way_back(service: Running) -> None:
    status = service.status()
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"10001"}
    assert status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind


def test_it_can_write_to_tmp_only(service: Running) -> None:
    lines = Path(f"/proc/{service.process.pid}/mountinfo").read_text().splitlines()
    options = {line.split()[4]: line.split()[5].split(",") for line in lines}
    assert "ro" in options["/"]
    assert "ro" in options["/mnt"]
    assert "rw" in options["/tmp"]


def test_it_listens_on_no_port_but_its_own_two(service: Running) -> None:
    of_process = psutil.Process(service.process.pid)
    family = [of_process, *of_process.children(recursive=True)]
    listening = {
        connection.laddr.port
        for each in family
        for connection in each.net_connections(kind="inet")
        if connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    }
    assert listening == {service.port, service.admin}


def test_probes_and_metrics_are_on_the_admin_port(service: Running) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        with urlopen(f"http://127.0.0.1:{service.admin}{path}", timeout=30) as answer:
            assert answer.status == 200
    with pytest.raises(HTTPError):
        urlopen(f"{service.url}/metrics", timeout=30)


def test_it_is_one_process_that_ends_by_itself_at_sigterm(service: Running) -> None:
    assert not psutil.Process(service.process.pid).children()
    service.process.send_signal(signal.SIGTERM)
    ended = service.process.wait(timings.STOP_SECONDS)
    assert ended == 0, service.log.read_text()


def test_steps_of_the_image_can_be_run_without_docker(root: Path) -> None:
    text = (root / "docker" / "build_without_docker.py").read_text()
    known = set(re.findall(r'case "(\w+)"(?: \| "(\w+)")?', text))
    known_words = {word for pair in known for word in pair if word}
    before_last = (root / "Dockerfile").read_text().rpartition("\nFROM ")[0]
    used = set(re.findall(r"^([A-Z]+) ", before_last, re.MULTILINE)) - {"FROM"}
    assert used <= known_words
