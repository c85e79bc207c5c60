"""A service of one's own while a block runs: a real ``plaudit serve`` process."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plaudit.client import RewardClient
from plaudit.client.errors import DeadlineExceeded
from training.score.served import ServiceError

# Between two looks at whether the process still lives, and how long it may take to be ready.
LOOK_SECONDS = 1.0
LOOKS = 300


@contextmanager
def serving(model: Path, log: Path, *arguments: str, port: int | None = None) -> Iterator[str]:
    """The URL of a server that is ready; it ends with the block. What it says goes to ``log``.
    Without a ``port`` it gets a free one."""
    port = free_port() if port is None else port
    command = [
        *(sys.executable, "-m", "plaudit.cli", "serve", str(model), "--port", str(port)),
        *("--log-level", "warning", "--deadline-seconds", "600", *arguments),
    ]
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_ready(process, url, log)
        yield url
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
    return found


def wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    with RewardClient(url) as client:
        for _ in range(LOOKS):
            if process.poll() is not None:
                raise ServiceError(f"the service ended with {process.returncode}: see {log}")
            try:
                return client.wait_ready(LOOK_SECONDS)
            except DeadlineExceeded:
                continue
    raise ServiceError(f"{url}: not ready after {LOOKS * LOOK_SECONDS:.0f} seconds; see {log}")
