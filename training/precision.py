"""Where bf16 is the fast path: hardware that multiplies in it."""

import torch


def has_bf16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def measuring_dtype() -> str:
    """The dtype that scores held-out pairs soonest."""
    return "bfloat16" if has_bf16() else "float32"
