"""Tensors of the KServe v2 protocol, in JSON and in its binary extension.

Binary: the JSON comes first, as long as a header says; then the tensors that have a
``binary_data_size``, little endian, in the order of the JSON. An element of BYTES is its length in
four bytes and itself. https://kserve.github.io/website/docs/concepts/architecture/data-plane
"""

import re
import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct

from service.items import refuse_more
from service.problems import Failure

HEADER_LENGTH = "inference-header-content-length"
INT64 = range(-(2**63), 2**63)


class Input(Struct, frozen=True):
    """An input tensor: ``data`` flat or nested, unless ``parameters`` has its binary size."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] = []
    parameters: dict[str, Any] = {}


Tensor = np.ndarray[Any, Any]


def split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    """The JSON of a body, and the binary tensors after it."""
    if header_length is None:
        return body, b""
    if not re.fullmatch("[0-9]{1,12}", header_length) or int(header_length) > len(body):
        raise Failure("malformed", "Inference-Header-Content-Length is not within the body")
    return body[: int(header_length)], body[int(header_length) :]


def tensors(inputs: Sequence[Input], binary: bytes, most: int) -> dict[str, Tensor]:
    """Inputs by name: INT64, and BYTES as text (UTF-8). Failure "malformed" for others, and
    "too-large" for more than ``most`` items, before any is read."""
    found: dict[str, Tensor] = {}
    left = memoryview(binary)
    for one in inputs:
        count = elements(one, most)
        size = one.parameters.get("binary_data_size")
        if size is None:
            flat = in_json(one, count)
        else:
            if not isinstance(size, int) or not 0 <= size <= len(left):
                raise Failure("malformed", f"binary_data_size of {label(one)} is past the body")
            flat, left = in_binary(one, left[:size], count), left[size:]
        if len(flat) != count:
            raise wrong_shape(one)
        found[one.name] = flat.reshape(one.shape)
    if left:
        raise Failure("malformed", "more binary data than the inputs say")
    return found


def elements(one: Input, most: int) -> int:
    """How many values the shape says that there are: of N rows at most ``most``, and of texts, of
    which an item is one, no more either."""
    sizes = [size for size in one.shape if 0 <= size < 2**31]
    if len(sizes) not in (1, 2) or sizes != one.shape:
        raise wrong_shape(one)
    refuse_more(prod(sizes) if one.datatype == "BYTES" else sizes[0], most)
    return prod(sizes)


def in_json(one: Input, count: int) -> Tensor:
    """As many values as there should be, and one more where there are more."""
    flat = list(islice(leaves(one.data), count + 1))
    match one.datatype:
        case "INT64" if all(type(value) is int and value in INT64 for value in flat):
            return np.array(flat, np.int64)
        case "BYTES" if all(isinstance(value, str) for value in flat):
            return np.array(flat, object)
    raise wrong_type(one)


def leaves(data: list[Any]) -> Iterator[Any]:
    """Of a flat list, or of rows."""
    for value in data:
        yield from value if isinstance(value, list) else [value]


def in_binary(one: Input, data: memoryview, count: int) -> Tensor:
    """As ``in_json``."""
    match one.datatype:
        case "INT64" if len(data) % 8 == 0:
            return np.frombuffer(data, "<i8")
        case "BYTES":
            try:
                return np.array(list(islice(texts(data), count + 1)), object)
            except (struct.error, UnicodeDecodeError):
                pass
    raise wrong_type(one)


def texts(data: memoryview) -> Iterator[str]:
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        (element,) = struct.unpack_from(f"{length}s", data, at + 4)
        at += 4 + length
        yield element.decode()


def wrong_shape(one: Input) -> Failure:
    return Failure("malformed", f"{label(one)} is not of its shape, (N,) or (N, T)")


def wrong_type(one: Input) -> Failure:
    return Failure("malformed", f"{label(one)} is not well-formed INT64 or BYTES (UTF-8)")


def label(one: Input) -> str:
    return one.name if one.name in ("sentences", "tokens", "sequence_lengths") else "an input"
