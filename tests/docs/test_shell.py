"""The shell that runs blocks of the pages leaves nothing behind."""

from contextlib import suppress
from pathlib import Path

import psutil
from shell import Shell

FOREVER = """
import os, signal
from pathlib import Path
Path("begun").write_text(str(os.getpid()))
os.rename("begun", "pid")
signal.pause()
"""
FAILING = """
trap 'kill -KILL $server' EXIT
python forever.py > said 2>&1 &
server=$!
until [ -e pid ]; do sleep 0.1; done
false
"""


def test_what_a_block_that_fails_has_started_ends_with_it(shell: Shell, tmp_path: Path) -> None:
    """The command is no child of the shell's."""
    (tmp_path / "forever.py").write_text(FOREVER)
    assert shell.run(FAILING, tmp_path).returncode == 1
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int((tmp_path / "pid").read_text())).wait(60)
