"""Files that are whole or not there, whatever ends the process that writes them."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def opened_whole(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes ``path`` by rename once all is written, and goes where writing fails.

    Of several writers, on machines that share the directory too, the last one's file stays. What a
    killed writer had begun stays beside ``path``, under another name.
    """
    pending = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        with pending.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        pending.replace(path)
    except BaseException:
        pending.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    with opened_whole(path) as file:
        file.write(data)
