"""The GPU, if there is one, and whether torch can use it."""

import csv
import io
import shutil
import subprocess
from collections.abc import Iterator
from types import ModuleType

from service.byte_size import size
from service.doctor.finding import Finding, failed, ok, warning

QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
# From this compute capability on, bfloat16 has its own arithmetic (Ampere).
BF16_CAPABILITY = (8, 0)


def load_torch() -> ModuleType | Finding:
    """torch, or why it cannot be loaded."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return failed(
            "torch",
            f"cannot be loaded: {error}",
            "pip install --force-reinstall 'plaudit[service]'",
        )
    return torch


def check(torch: ModuleType, wanted: str) -> Iterator[Finding]:
    """``wanted`` is the setting --device."""
    seen = cards()
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield card(number, torch, seen)
    elif seen:
        yield failed(
            "gpu",
            f"{'; '.join(seen)}, and torch {torch.__version__} cannot use it",
            "pip install --force-reinstall torch (a build with CUDA, for this driver)",
        )
    elif wanted == "cuda":
        yield failed("gpu", "none, and --device is cuda", "plaudit serve --device cpu")
    else:
        yield ok("gpu", "none; models run on the CPU")


def cards() -> list[str]:
    """What the driver knows: name, memory, driver version of each; empty without a driver."""
    if shutil.which(QUERY[0]) is None:
        return []
    done = subprocess.run(QUERY, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        return []
    rows = csv.reader(io.StringIO(done.stdout), skipinitialspace=True)
    return [f"{row[0]}, {row[1]}, driver {row[2]}" for row in rows if len(row) == 3]


def card(number: int, torch: ModuleType, seen: list[str]) -> Finding:
    free, total = torch.cuda.mem_get_info(number)
    said = seen[number] if number < len(seen) else torch.cuda.get_device_name(number)
    said += f"; {size(free)} of {size(total)} free; CUDA {torch.version.cuda} of torch"
    if torch.cuda.get_device_capability(number) < BF16_CAPABILITY:
        return warning(
            f"gpu {number}",
            f"{said}; no arithmetic in bfloat16, which --dtype auto takes",
            "plaudit serve --dtype float32",
        )
    return ok(f"gpu {number}", said)
