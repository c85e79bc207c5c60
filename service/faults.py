"""What the exception of a forward tells: no memory, no device any more, or neither."""

import traceback

import torch

# As torch says it on a CPU, in cuBLAS and in the CUDA runtime, which have no exception of their
# own for it.
OUT_OF_MEMORY = (
    "can't allocate memory", "bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory",
)  # fmt: skip


def is_out_of_memory(error: Exception) -> bool:
    """Whether less at a time may do."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in OUT_OF_MEMORY)


def is_device_lost(error: Exception) -> bool:
    """Whether nothing will be computed in this process any more. An error of the CUDA runtime stays
    (a failed assertion, an illegal address, an uncorrectable error of its memory)."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def let_go(error: Exception) -> None:
    """Free what the frames of a failed forward hold, which is most of the memory that it took; the
    lines that it failed at stay for the log."""
    traceback.clear_frames(error.__traceback__)
