"""The CPU: what its instructions mean for ``--dtype``, and how many threads it bears."""

import os
import re
from collections.abc import Iterator, Set
from pathlib import Path

from service.doctor.finding import Finding, ok, warning

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
FAST_BF16 = {"amx_bf16": "AMX-BF16", "avx512_bf16": "AVX512-BF16", "bf16": "BF16"}


def check(dtype: str, threads: int, torch_threads: int | None) -> Iterator[Finding]:
    """``threads`` is the setting, 0 for torch's choice; ``torch_threads`` that choice, None where
    torch cannot be loaded."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    yield instructions(flags_of(text), name_of(text), dtype)
    quota = quota_of(CPU_MAX.read_text()) if CPU_MAX.is_file() else None
    yield cores(len(os.sched_getaffinity(0)), quota, threads or torch_threads or 0)


def flags_of(cpuinfo: str) -> set[str]:
    """Of the first processor; x86 calls them flags, Arm Features."""
    fits = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return set(fits[1].split()) if fits else set()


def name_of(cpuinfo: str) -> str:
    fits = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return fits[1] if fits else "unknown processor"


def instructions(flags: Set[str], name: str, dtype: str) -> Finding:
    """``dtype`` is the setting; on a CPU, auto is float32."""
    fast = [said for flag, said in FAST_BF16.items() if flag in flags]
    if fast:
        return ok(
            "cpu", f"{name}: {', '.join(fast)}, so --dtype bfloat16 may be faster: compare with "
            "plaudit bench; plaudit parity shows what it changes"
        )  # fmt: skip
    if dtype == "bfloat16":
        return warning(
            "cpu",
            f"{name}: neither AVX512-BF16 nor AMX, so bfloat16 is emulated and slow on this CPU",
            "plaudit serve --dtype float32 (unless the models run on a GPU)",
        )
    return ok("cpu", f"{name}: neither AVX512-BF16 nor AMX; keep --dtype float32 on this CPU")


def quota_of(cpu_max: str) -> float | None:
    """Cores that a container may use, of ``200000 100000``; None where it says max."""
    quota, _, period = cpu_max.partition(" ")
    return None if quota.strip() == "max" else int(quota) / int(period)


def cores(count: int, quota: float | None, threads: int) -> Finding:
    most = count if quota is None else min(count, quota)
    said = f"{count} cores" + ("" if quota is None else f", of which the container gets {quota:g}")
    if threads > most + 0.5:
        return warning(
            "threads",
            f"{said}, and {threads} threads compute: they wait for each other",
            f"export PLAUDIT_THREADS={max(1, round(most))}",
        )
    return ok("threads", f"{said}; {threads or 'unknown number of'} compute threads")
