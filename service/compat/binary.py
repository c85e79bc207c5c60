"""Numbers as the bytes that vLLM's and OpenAI's clients read."""

import base64
import math
import sys
from typing import Literal

import torch

from service.problems import Failure

EmbedDtype = Literal["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"]
Endianness = Literal["native", "little", "big"]
DTYPES: dict[EmbedDtype, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}


def as_bytes(
    number: float | None, dtype: EmbedDtype = "float32", endianness: Endianness = "little"
) -> bytes:
    """One number; NaN for one that is missing. Failure "malformed" where ``dtype`` is too small."""
    if number is not None and abs(number) > torch.finfo(DTYPES[dtype]).max:
        raise Failure("malformed", f"a score is beyond what {dtype} holds: ask for float32")
    value = torch.tensor([math.nan if number is None else number], dtype=DTYPES[dtype])
    raw = value.view(torch.uint8).numpy().tobytes()
    order = sys.byteorder if endianness == "native" else endianness
    return raw if order == sys.byteorder else raw[::-1]


def as_base64(
    number: float | None, dtype: EmbedDtype = "float32", endianness: Endianness = "little"
) -> str:
    return base64.b64encode(as_bytes(number, dtype, endianness)).decode()
