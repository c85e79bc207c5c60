"""Memory and use of the GPU that this process computes on.

Nothing without one, or where the engine computes in processes of its own (vLLM).
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

import torch

Reading = tuple[tuple[str, ...], float]


def memory() -> Iterator[Reading]:
    """Bytes of the device, used by whomever, and in all."""
    if not _computes():
        return
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:  # the GPU is lost, which canaries tell; the other metrics are needed now
        return
    yield ("used",), total - free
    yield ("total",), total


def utilization() -> Iterator[Reading]:
    """Share of the last moment in which a kernel ran; needs nvidia-ml-py."""
    if not _computes() or find_spec("pynvml") is None:
        return
    try:
        yield (), torch.cuda.utilization() / 100
    except import_module("pynvml").NVMLError:  # a part of a device (MIG) does not say
        return


def _computes() -> bool:
    """Whether this process does; asking a device that it does not use would take memory there."""
    initialized: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return initialized
