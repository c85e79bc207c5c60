"""A directory for what is read from files: in memory where the system has such a place."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

IN_MEMORY = Path("/dev/shm")


@cache
def folder(name: str) -> Path:
    """A new directory, of this process, gone with it."""
    above = IN_MEMORY if IN_MEMORY.is_dir() else None
    made = Path(tempfile.mkdtemp(prefix=f"plaudit-fuzz-{name}-", dir=above))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
