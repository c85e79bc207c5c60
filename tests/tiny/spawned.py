"""Other people's servers as processes of a test, up when their log says so."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Generous: for a machine that is busy with other things too.
PATIENCE_SECONDS = 300.0


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    """Until it does; AssertionError when it has not for too long."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, f"waited {PATIENCE_SECONDS:.0f} s for {what}"
        time.sleep(0.05)


@contextmanager
def spawned(log: Path, ready: str, *command: str) -> Iterator[None]:
    """The process from when ``ready`` stands in its log; killed at the end."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(f"{command[0]}: {ready}", lambda: ready in log.read_text() or ended(process, log))
        yield
    finally:
        process.kill()
        process.wait()


def ended(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-2000:]
    return False
