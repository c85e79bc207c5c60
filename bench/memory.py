"""What scoring takes in memory, beyond the weights and whatever else was held before it (Linux)."""

import ctypes
import os
import re
from collections.abc import Callable
from pathlib import Path

import psutil

FORGET_PEAK = "5"  # proc(5): resets the high-water mark of /proc/PID/status


def peak_megabytes(work: Callable[[], object], process: int) -> float:
    """By how much the resident memory of a process, and of those that it has started, grows at
    most while ``work`` is done. What this process freed earlier is given back to the system first;
    of several processes, each one's own peak counts."""
    processes = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    if process == os.getpid():
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        processes = processes[:1]
    for one in processes:
        Path(f"/proc/{one.pid}/clear_refs").write_text(FORGET_PEAK)
    before: int = sum(one.memory_info().rss for one in processes)
    work()
    return (sum(high_water(one.pid) for one in processes) - before) / 1e6


def high_water(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
