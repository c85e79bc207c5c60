"""What the system allows: memory, descriptors, and a clock that is right."""

import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import plaudit
from service import free_memory
from service.byte_size import size
from service.doctor.finding import Finding, failed, ok, warning

CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
# Sources that are read through the system and take a microsecond or more.
SLOW_SOURCES = ("hpet", "acpi_pm", "jiffies", "refined-jiffies")
ENOUGH_FILES = 4096


def check(need_bytes: float) -> Iterator[Finding]:
    """``need_bytes``: of the weights of all models that are to be served."""
    machine, container = free_memory.left()
    if machine is not None:
        yield memory(machine, container, need_bytes)
    yield descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    installed = Path(plaudit.__file__).with_name("version.py").stat().st_mtime
    source = CLOCK_SOURCE.read_text().strip() if CLOCK_SOURCE.is_file() else "unknown"
    yield clock(time.time(), installed, source)


def memory(available_bytes: int, container_bytes: int | None, need_bytes: float) -> Finding:
    left = available_bytes if container_bytes is None else min(available_bytes, container_bytes)
    said = f"{size(left)} available" + ("" if container_bytes is None else " (container)")
    if need_bytes > left:
        return failed(
            "memory",
            f"{said}, and the weights need {size(need_bytes)} on a CPU",
            "serve fewer models, or --dtype bfloat16, which halves them",
        )
    need = f"; the weights need {size(need_bytes)}" if need_bytes else ""
    return ok("memory", said + need)


def descriptors(soft: int) -> Finding:
    if soft != resource.RLIM_INFINITY and soft < ENOUGH_FILES:
        return warning(
            "descriptors",
            f"{soft} open files: each connection takes one",
            "ulimit -n 65536 (LimitNOFILE=65536 of a systemd unit)",
        )
    return ok("descriptors", "no limit" if soft == resource.RLIM_INFINITY else f"{soft} open files")


def clock(now: float, installed: float, source: str) -> Finding:
    """``now`` and when Plaudit was installed, in seconds since 1970."""
    date = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    if now < installed:
        return failed(
            "clock",
            f"{date} is before Plaudit was installed: logs, TLS and lives in Redis go wrong",
            "timedatectl set-ntp true",
        )
    if source in SLOW_SOURCES:
        return warning(
            "clock",
            f"{date}, read from {source}, which is slow",
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
        )
    return ok("clock", f"{date}, source {source}")
