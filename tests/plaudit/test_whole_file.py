"""A file is whole or as it was: when writing fails, and when the writer is killed."""

import signal
import subprocess
import sys

import pytest

from plaudit.whole_file import opened_whole, write_whole

KILLED = """
import os, signal, sys
from pathlib import Path
from plaudit.whole_file import opened_whole
with opened_whole(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path):
    for data in (b"one", b""):
        write_whole(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    write_whole(tmp_path / "file", b"one")

    def rows():
        yield b"half"
        raise ValueError("no second row")

    with (
        pytest.raises(ValueError, match="no second row"),
        opened_whole(tmp_path / "file") as file,
    ):
        file.writelines(rows())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"one"


def test_a_killed_writer_leaves_what_was_there(tmp_path):
    write_whole(tmp_path / "file", b"one")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "file")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_bytes() == b"one"
