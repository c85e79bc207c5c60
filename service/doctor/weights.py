"""Weights as their files' headers describe them; no tensor is read."""

import json
import math
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from plaudit.checkpoint import INDEX_FILE, weight_files
from service.doctor.finding import Finding, failed, ok

MOST_HEADER_BYTES = 100_000_000  # what the format itself allows
RESTORE = "copy the checkpoint again: rsync -c SOURCE/ {}/"


class BrokenWeights(ValueError):
    """A file that is not whole; the text says which and why."""


class Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def header(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file by name. BrokenWeights where its length is another."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= MOST_HEADER_BYTES:
            raise BrokenWeights(f"{path.name} is no safetensors file")
        try:
            fields = msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
            fields.pop("__metadata__", None)
            found = {name: msgspec.json.decode(raw, type=Tensor) for name, raw in fields.items()}
        except msgspec.MsgspecError:
            raise BrokenWeights(f"{path.name} has a broken header") from None
    end = 8 + length + max((tensor.data_offsets[1] for tensor in found.values()), default=0)
    if path.stat().st_size != end:
        raise BrokenWeights(f"{path.name} has {path.stat().st_size} bytes and should have {end}")
    return found


def check(directory: Path) -> tuple[Finding, int]:
    """Whether all weights are there, and how many parameters they are."""
    name = f"{directory.name} weights"
    try:
        missing = missing_shards(directory)
        tensors = [one for path in weight_files(directory) for one in header(path).values()]
    except BrokenWeights as error:
        return failed(name, str(error), RESTORE.format(directory)), 0
    if missing:
        return failed(
            name, f"{INDEX_FILE} names {', '.join(missing)}, not there", RESTORE.format(directory)
        ), 0
    parameters = sum(math.prod(one.shape) for one in tensors)
    return ok(name, f"{millions(parameters)} parameters, {dtypes(tensors)}"), parameters


def missing_shards(directory: Path) -> Sequence[str]:
    index = directory / INDEX_FILE
    if not index.is_file():
        return []
    named = set(json.loads(index.read_text())["weight_map"].values())
    return sorted(shard for shard in named if not (directory / shard).is_file())


def dtypes(tensors: Sequence[Tensor]) -> str:
    """By the parameters that they have, most first."""
    counts: Counter[str] = Counter()
    for one in tensors:
        counts[one.dtype] += math.prod(one.shape)
    return ", ".join(name for name, _ in counts.most_common())


def millions(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.2f} billion"
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
