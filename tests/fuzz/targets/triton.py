"""Triton's bodies: JSON, then tensors in binary as long as a header says.

An input is the header's length in two bytes, little endian (65535: no such header), and the body.
"""

import json
import struct

import msgspec

from plaudit.wire import Item
from service.bodies import decode
from service.compat.triton import Infer, read
from service.compat.triton_tensors import split
from service.problems import Failure
from tests.fuzz.targets import golden
from tests.fuzz.targets.saying import refused

MOST = 16
NONE = 0xFFFF
DECODER = msgspec.json.Decoder(Infer)


def seeds() -> list[bytes]:
    in_json = [body for path, body in golden.bodies() if path.startswith("/v2/models")]
    mixed = [body.replace(b"INT64", b"BYTES").replace(b"1", b'"1"') for body in in_json]
    return [*(struct.pack("<H", NONE) + body for body in in_json + mixed), in_binary()]


def in_binary() -> bytes:
    texts = b"".join(struct.pack("<I", len(text)) + text for text in (b"Hi", "é".encode()))
    inputs = [{"name": "sentences", "shape": [2, 1], "datatype": "BYTES",
               "parameters": {"binary_data_size": len(texts)}}]  # fmt: skip
    head = json.dumps({"inputs": inputs}).encode()
    return struct.pack("<H", len(head)) + head + texts


def one(data: bytes) -> None:
    """Items within the limit that no tensor of theirs exceeds, or "malformed" or "too-large"."""
    length = int.from_bytes(data[:2], "little")
    body = data[2:]
    try:
        text, binary = split(body, None if length == NONE else str(length))
        asked = decode(DECODER, text)
        items = read(asked.inputs, binary, MOST)
    except Failure as failure:
        refused(failure, "malformed", "too-large")
        return
    assert text + binary == body
    assert 0 <= len(items) <= MOST
    msgspec.convert(msgspec.to_builtins(items), list[Item])  # of the types that they declare
    assert sum(len(item.token_ids or item.text or "") for item in items) <= len(body)
    assert asked.binary in (True, False)
