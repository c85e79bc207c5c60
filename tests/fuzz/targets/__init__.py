"""What reads bytes of strangers, one module each, by its name."""

from pathlib import Path
from types import ModuleType

from tests.fuzz.targets import (
    bodies,
    cache_values,
    compat,
    configurations,
    headers,
    manifests,
    safetensors_headers,
    triton,
)

MODULES = (
    bodies, cache_values, compat, configurations, headers, manifests, safetensors_headers, triton,
)  # fmt: skip
TARGETS: dict[str, ModuleType] = {module.__name__.rpartition(".")[2]: module for module in MODULES}
CORPUS = Path(__file__).parents[1] / "corpus"


def inputs(name: str) -> list[bytes]:
    """The seeds of a target, and what once broke it or what it reads."""
    kept = [file.read_bytes() for file in sorted((CORPUS / name).glob("*"))]
    return [*TARGETS[name].seeds(), *kept]
