"""``plaudit doctor``: whether a server would start and answer here, and what mends it if not."""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import msgspec
from rich.console import Console
from rich.text import Text

from plaudit.version import VERSION
from service.doctor import (
    device,
    environment,
    limits,
    models,
    port,
    processor,
    redis_round_trip,
    versions,
)
from service.doctor.finding import Finding, State, failed
from service.redaction import redacted
from service.settings import PREFIX, Settings

STYLES: dict[State, str] = {"ok": "green", "warning": "yellow", "failed": "bold red"}
# Of a parameter; others are computed in float32 on a CPU. int8 is loaded in bfloat16.
BYTES = {"bfloat16": 2, "int8": 2}


class Report(msgspec.Struct, frozen=True):
    """What ``--json`` prints."""

    plaudit: str
    state: State
    findings: list[Finding]


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    hidden = environment.secrets(os.environ, [options.redis_url or "", *map(str, options.models)])
    report = examine(options, os.environ, hidden)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        show(report, Console(highlight=False, soft_wrap=True))
    return 1 if report.state == "failed" else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="plaudit doctor",
        allow_abbrev=False,
        description=__doc__,
        epilog="Settings are those of the environment, PLAUDIT_…, as plaudit serve reads them. "
        "Exit status: 0, 1 where something failed, 2 for bad input",
    )
    found.add_argument(
        "models", nargs="*", type=Path, metavar="MODEL",
        help="checkpoint directories, files of ensembles or of objectives; they are scanned and "
        "not loaded; default: PLAUDIT_MODELS",
    )  # fmt: skip
    found.add_argument(
        "--config", type=Path, metavar="FILE",
        help="models, ensembles and bundles by name; default: PLAUDIT_CONFIG",
    )  # fmt: skip
    found.add_argument("--redis-url", metavar="URL", help="redis://…; default: PLAUDIT_REDIS_URL")
    found.add_argument("--host", help="default: PLAUDIT_HOST, else 127.0.0.1")
    found.add_argument("--port", type=int, help="default: PLAUDIT_PORT, else 8000")
    found.add_argument(
        "--json", action="store_true", help="for bug reports; without passwords and keys"
    )
    return found


def examine(
    options: argparse.Namespace, environ: Mapping[str, str], hidden: Sequence[str]
) -> Report:
    """All findings, with what no report may show taken out."""
    found = [without(one, hidden) for one in findings(options, environ)]
    states = {one.state for one in found}
    worst: State = next((s for s in ("failed", "warning") if s in states), "ok")
    return Report(VERSION, worst, found)


def without(finding: Finding, hidden: Sequence[str]) -> Finding:
    mend = None if finding.mend is None else redacted(finding.mend, hidden)
    return Finding(finding.name, finding.state, redacted(finding.says, hidden), mend)


def findings(options: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[Finding]:
    yield from versions.check()
    yield from environment.unknown(environ)
    config = [] if options.config is None else ["--config", str(options.config)]
    settings = environment.settings_of([*map(str, options.models), *config])
    if isinstance(settings, Finding):
        yield settings
        settings = Settings.model_construct(models=options.models, config=options.config)
    else:
        yield environment.consistent(settings)
    scanned, parameters = scan(settings)
    yield from machine(settings, parameters)
    yield listening(options, settings)
    if settings.admin_port is not None:
        yield port.check(settings.admin_host, settings.admin_port, "admin port")
    url = options.redis_url or environ.get(f"{PREFIX}REDIS_URL")
    if url:
        yield from redis_round_trip.check(url, settings.redis_timeout_ms)
    yield from scanned


def scan(settings: Settings) -> tuple[list[Finding], int]:
    """Findings of every model and the parameters of all."""
    directories = models.directories(settings)
    if isinstance(directories, Finding):
        return [directories], 0
    results = [models.check(*one, settings.max_tokens) for one in directories.items()]
    return [one for found, _ in results for one in found], sum(count for _, count in results)


def machine(settings: Settings, parameters: int) -> Iterator[Finding]:
    torch = device.load_torch()
    threads = torch.get_num_threads() if isinstance(torch, ModuleType) else None
    yield from processor.check(settings.dtype, settings.threads, threads)
    on_gpu = isinstance(torch, ModuleType) and torch.cuda.is_available()
    yield from limits.check(0 if on_gpu else parameters * BYTES.get(settings.dtype, 4))
    if isinstance(torch, ModuleType):
        yield from device.check(torch, settings.device)
    else:
        yield torch


def listening(options: argparse.Namespace, settings: Settings) -> Finding:
    number = settings.port if options.port is None else options.port
    if not 0 <= number <= 65535:
        return failed("port", f"{number} is no port", "plaudit serve --port 8000")
    return port.check(options.host or settings.host, number)


def show(report: Report, console: Console) -> None:
    width = max(len(one.name) for one in report.findings)
    for one in report.findings:
        line = Text(f"{one.state:8}", style=STYLES[one.state])
        line.append(f" {one.name:{width}}  {one.says}", style="default")
        console.print(line)
        if one.mend is not None:
            console.print(Text(f"{'':9}{'':{width}}  mend: {one.mend}"))
    counts = {state: sum(one.state == state for one in report.findings) for state in STYLES}
    console.print(", ".join(f"{count} {state}" for state, count in counts.items()), style="bold")
