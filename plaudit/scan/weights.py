"""Safetensors, by their headers alone: what they declare must be what the file can hold.

The format: eight bytes, the length of the header; the header, JSON of tensors by name with dtype,
shape and offsets; then the tensors, without gaps. github.com/huggingface/safetensors
"""

import json
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec

from plaudit.checkpoint import INDEX_FILE
from plaudit.scan.files import PROGRAMS
from plaudit.scan.finding import Finding, refused

MAX_HEADER_BYTES = 100_000_000  # that of the safetensors library
BITS = {
    "BOOL": 8, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8, "F8_E5M2FNUZ": 8, "F8_E8M0": 8, "BF16": 16, "F16": 16, "F32": 32, "F64": 64,
    "I8": 8, "I16": 16, "I32": 32, "I64": 64, "U8": 8, "U16": 16, "U32": 32, "U64": 64,
}  # fmt: skip
CONVERT = (
    "convert it where you trust it: "
    "AutoModelForSequenceClassification.from_pretrained(DIR).save_pretrained(NEW)"
)
RESTORE = "fetch or save the file again"
Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
# torch has at most 64 dimensions. The product of the sizes of a million takes hours.
Shape = Annotated[list[Size], msgspec.Meta(max_length=64)]


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: Shape
    data_offsets: tuple[Size, Size]


class Lie(ValueError):
    """A header that does not fit its file."""


def check(directory: Path) -> list[Finding]:
    found = [lie for path in sorted(directory.glob("*.safetensors")) for lie in check_file(path)]
    return [*found, *check_index(directory), *check_there(directory)]


def check_there(directory: Path) -> list[Finding]:
    if any(directory.glob("*.safetensors")):
        return []
    pickled = sorted(p.name for p in directory.iterdir() if p.suffix.lower() in PROGRAMS)
    if pickled:
        return [
            refused(pickled[0], "weights in a format that can run code, and no others", CONVERT)
        ]
    return [refused(".", "no .safetensors weights", "name the directory of a model")]


def check_file(path: Path) -> list[Finding]:
    try:
        size, tensors = header(path)
        check_tensors(size, tensors)
    except Lie as lie:
        return [refused(path.name, str(lie), RESTORE)]
    except PermissionError:
        readable = f"chmod -R a+rX {path.parent}"
        return [refused(path.name, "this user may not read it", readable)]
    except OSError as error:
        return [refused(path.name, f"it cannot be read ({error.strerror})", RESTORE)]
    return []


def header(path: Path) -> tuple[int, dict[str, Tensor]]:
    """How many bytes a file has for tensors, and what it declares. Raises Lie."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise Lie(f"its header has {length} bytes and the file {size}")
        if length > MAX_HEADER_BYTES:
            raise Lie(f"its header has {length} bytes, at most {MAX_HEADER_BYTES} are read")
        text = file.read(length)
    try:
        declared = json.loads(text, object_pairs_hook=each_once)
        declared.pop("__metadata__", None)
        return size - 8 - length, msgspec.convert(declared, dict[str, Tensor])
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Lie(f"its header is not one of tensors ({type(error).__name__})") from None


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found


def check_tensors(size: int, tensors: dict[str, Tensor]) -> None:
    """Tensors follow one another from the first byte to the last, each as large as its shape."""
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda pair: pair[1].data_offsets):
        begin, end = tensor.data_offsets
        if tensor.dtype not in BITS:
            raise Lie(f"{name!r:.80} has the unknown dtype {tensor.dtype!r:.20}")
        if begin != at or end < begin:
            raise Lie(f"{name!r:.80} begins at {begin}, and the one before it ends at {at}")
        if (end - begin) * 8 != prod(tensor.shape) * BITS[tensor.dtype]:
            raise Lie(f"{name!r:.80} has another size than its shape and dtype say")
        at = end
    if at != size:
        raise Lie(f"its tensors have {at} bytes and the file has {size} for them")


def check_index(directory: Path) -> list[Finding]:
    """The index of several files names files that lie beside it."""
    path = directory / INDEX_FILE
    if not path.is_file():
        return []
    try:
        named = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return [refused(INDEX_FILE, "it has no weight_map of tensors to files", RESTORE)]
    there = {file.name for file in directory.glob("*.safetensors")}
    return [
        refused(
            INDEX_FILE,
            f"weight_map names {name!r:.80}, which is no .safetensors file beside it",
            RESTORE,
        )
        for name in sorted(named - there, key=str)
    ]
