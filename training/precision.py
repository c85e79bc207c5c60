"""Where bf16 is the fast path: hardware that multiplies in it."""

from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]


def has_bf16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def trains_in_bf16(precision: Precision) -> bool:
    """By bf16 autocast: where it is asked for, or where the hardware multiplies in bf16."""
    return has_bf16() if precision == "auto" else precision == "bf16"


def measuring_dtype(asked: str = "auto") -> str:
    """The dtype asked for, or with ``auto`` the one that scores held-out pairs soonest."""
    if asked != "auto":
        return asked
    return "bfloat16" if has_bf16() else "float32"
