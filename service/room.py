"""Whether a second model fits beside the first, before anything of it is read.

A process that takes more memory than there is gets killed, and with it the model that was served.
"""

import math
from pathlib import Path

import torch

from plaudit import checkpoint
from plaudit.reward_model import LOADED_IN
from plaudit.scan import weights
from service import free_memory
from service.byte_size import size


def refuse_too_large(directory: Path, dtype: str, device: torch.device) -> None:
    """MemoryError unless the weights in ``directory`` fit, as they are served."""
    need = needed(directory, dtype)
    left = left_on_gpu(device) if device.type == "cuda" else left_on_cpu()
    if left is not None and need > left:
        raise MemoryError(f"the weights need {size(need)}, and {size(left)} are left")


def needed(directory: Path, dtype: str) -> int:
    """Bytes of all tensors, as they are loaded."""
    declared = [weights.header(path)[1] for path in checkpoint.weight_files(directory)]
    count = sum(math.prod(tensor.shape) for file in declared for tensor in file.values())
    return count * LOADED_IN[dtype].itemsize


def left_on_gpu(device: torch.device) -> int:
    """Free bytes, and those that torch holds for tensors to come."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def left_on_cpu() -> int | None:
    """Bytes below the machine's limit and the container's; None where the system does not say."""
    machine, container = free_memory.left()
    if machine is None:
        return None
    return machine if container is None else min(machine, container)
