"""A shell that runs blocks of the pages: its ``plaudit`` and ``python`` start at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import warm_start

# ``plaudit serve`` of a page runs until the block is over: then SIGTERM has to end it with 0.
SERVING = """
serving() {
    "$@" &
    server=$!
    trap 'kill -KILL $server' EXIT  # a shim, with whose end warm_start.py ends the server
    until curl -so /dev/null "http://127.0.0.1:$PLAUDIT_PORT/"; do kill -0 $server; sleep 0.2; done
}
"""
END = """
if [ -n "${server-}" ]; then
    kill -TERM $server
    trap - EXIT
    wait $server
fi
"""
# Generous: the longest takes minutes of one core.
BLOCK_SECONDS = 3600.0


@dataclass(frozen=True)
class Shell:
    """``programs`` is the folder of ``plaudit`` and ``python``."""

    programs: Path

    def run(
        self, text: str, folder: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The lines of ``text`` up to the first that fails; what they say is one text."""
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        quiet = {"PATH": path, "TQDM_DISABLE": "1"}
        lines = text.replace("\nplaudit serve", "\nserving plaudit serve")
        return subprocess.run(
            ["bash", "-euc", SERVING + lines + END],
            cwd=folder, env=os.environ | quiet | (environment or {}), input="y\n", text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=BLOCK_SECONDS,
        )  # fmt: skip


@contextmanager
def opened(folder: Path) -> Iterator[Shell]:
    """A shell whose programs are in ``folder``, and end with the block."""
    address = folder / "socket"
    with subprocess.Popen(
        [sys.executable, warm_start.__file__, str(address)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        assert server.stdout.readline() == f"{address}\n"
        warm_start.shims(folder, address)
        try:
            yield Shell(folder)
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # with all that it has forked
