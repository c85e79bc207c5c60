"""Numbers as bytes, read back as the clients read them."""

import base64
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.compat.binary import as_base64, as_bytes
from service.problems import Failure

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(floats)
def test_float32_is_read_back_to_the_bit_in_both_orders(number):
    assert np.frombuffer(as_bytes(number), "<f4")[0] == number
    assert np.frombuffer(as_bytes(number, endianness="big"), ">f4")[0] == number
    assert np.frombuffer(as_bytes(number, endianness="native"), "=f4")[0] == number
    assert np.frombuffer(base64.b64decode(as_base64(number)), np.float32)[0] == number


@given(st.floats(-60000, 60000))
def test_float16_is_numpys(number):
    assert np.frombuffer(as_bytes(number, "float16", "big"), ">f2")[0] == np.float16(number)


@pytest.mark.parametrize(
    ("dtype", "of_torch"),
    [
        ("bfloat16", torch.bfloat16),
        ("fp8_e4m3", torch.float8_e4m3fn),
        ("fp8_e5m2", torch.float8_e5m2),
    ],
)
def test_other_types_are_torchs(dtype, of_torch):
    raw = bytearray(as_bytes(3.578, dtype))
    assert torch.frombuffer(raw, dtype=of_torch)[0] == torch.tensor(3.578).to(of_torch)


def test_a_missing_number_is_nan():
    assert math.isnan(np.frombuffer(as_bytes(None), np.float32)[0])


@pytest.mark.parametrize(("dtype", "number"), [("float16", 70000.0), ("fp8_e4m3", -1000.0)])
def test_a_number_beyond_the_type_is_refused_and_not_infinite(dtype, number):
    with pytest.raises(Failure, match=f"beyond what {dtype} holds"):
        as_bytes(number, dtype)
