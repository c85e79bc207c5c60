"""``plaudit serve`` as a process of its own, which can be killed and brought back on its port."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from plaudit.client import RewardClient
from plaudit.client.errors import DeadlineExceeded
from training.service_process import free_port

# Generous: a busy machine loads torch slowly.
READY_SECONDS = 300.0


class ServedProcess:
    """``under``: words of a command that starts another, such as ``prlimit --nofile=96``; ``said``:
    where stderr goes."""

    def __init__(
        self,
        models: Sequence[Path],
        *flags: str,
        under: Sequence[str] = (),
        said: Path = Path(os.devnull),
    ):
        self._port, self._said = free_port(), said
        self._command = [
            *under,
            *(sys.executable, "-m", "plaudit.cli", "serve", *map(str, models)),
            *("--port", str(self._port), "--device", "cpu", "--dtype", "float32", *flags),
        ]
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Begin to load; ``wait`` returns once it answers."""
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                self._command, env=environment, stderr=said, stdout=subprocess.DEVNULL
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> str:
        until = time.monotonic() + READY_SECONDS
        with RewardClient(self.url) as client:
            while not is_ready(client):
                assert self._process.poll() is None, f"it ended with {self._process.poll()}"
                assert time.monotonic() < until, f"not ready within {READY_SECONDS:.0f} s"
        return self.url

    def terminate(self) -> int:
        """SIGTERM; the status that it ends with."""
        self._process.terminate()
        return self._process.wait(READY_SECONDS)

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is said."""
        self._process.kill()
        self._process.wait()


def is_ready(client: RewardClient) -> bool:
    """Whether it is, or is within a second."""
    try:
        client.wait_ready(1.0)
    except DeadlineExceeded:
        return False
    return True
