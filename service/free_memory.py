"""Memory that the machine has left, and the container."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def left() -> tuple[int | None, int | None]:
    """Bytes of the machine and of the container; None where the system does not say, or sets no
    limit."""
    machine = available(MEMINFO.read_text()) if MEMINFO.is_file() else None
    return machine, left_in_container(CGROUP)


def available(meminfo: str) -> int:
    """Bytes, of a line in kB."""
    [kilobytes] = [line.split()[1] for line in meminfo.splitlines() if line[:13] == "MemAvailable:"]
    return int(kilobytes) * 1024


def left_in_container(cgroup: Path) -> int | None:
    """Bytes below the container's limit; what it holds of files may be dropped. None: no limit."""
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return None
    return None if limit == "max" else int(limit) - used + int(stat["inactive_file"])
