"""A service of one's own while a block runs: a real ``plaudit serve`` process."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from plaudit import checkpoint
from plaudit.client import RewardClient
from plaudit.client.errors import DeadlineExceeded
from training.score.served import KEY, ServiceError

# Between two looks at whether the process still lives, and how long it may take to be ready.
LOOK_SECONDS = 1.0
LOOKS = 300
# Below those that systems give to connections by themselves, one of which may take a free port
# before the service listens.
PORTS = range(20_000, 32_000)
GIVEN: set[int] = set()  # by this process, to servers that may not listen yet


def serving(
    model: Path, log: Path, *arguments: str, port: int | None = None
) -> AbstractContextManager[str]:
    """The URL of a server that is ready; it ends with the block. What it says goes to ``log``.

    Without a ``port`` it gets a free one. ServiceError where another process listens there.
    """
    return started([str(model), *arguments], model, log, free_port() if port is None else port)


@contextmanager
def started(
    arguments: Sequence[str],
    model: Path,
    log: Path,
    port: int,
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The same of ``arguments`` that serve ``model``; ``environment`` has more variables, such as
    keys."""
    if not is_free(port):
        raise ServiceError(
            f"another process listens on port {port}: end it, or choose another port"
        )
    command = [
        *(sys.executable, "-m", "plaudit.cli", "serve", *arguments, "--port", str(port)),
        *("--log-level", "warning", "--deadline-seconds", "600"),
    ]
    with log.open("ab") as file:
        every = os.environ | (environment or {})
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=every)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_ready(process, url, model, log)
        yield url
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """Drawn by the system: a training seeds ``random``, and two that run beside each other with one
    seed would draw the same ports."""
    drawn = random.SystemRandom().sample(PORTS, len(PORTS))
    port = next(port for port in drawn if port not in GIVEN and is_free(port))
    GIVEN.add(port)
    return port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # What is left of connections to a server that has ended does not stand in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_ready(process: subprocess.Popen[bytes], url: str, model: Path, log: Path) -> None:
    """ServiceError where the process ends, and where what answers does not serve ``model``."""
    with RewardClient(url, os.environ.get(KEY)) as client:
        for _ in range(LOOKS):
            if process.poll() is not None:
                raise ServiceError(f"the service ended with {process.returncode}: see {log}")
            try:
                client.wait_ready(LOOK_SECONDS)
            except DeadlineExceeded:
                continue
            revisions = [one.revision for one in client.models()]
            if process.poll() is None and revisions == [checkpoint.read_manifest(model)[1]]:
                return
            raise ServiceError(f"{url}: another service answers than that of {model}; see {log}")
    raise ServiceError(f"{url}: not ready after {LOOKS * LOOK_SECONDS:.0f} seconds; see {log}")
