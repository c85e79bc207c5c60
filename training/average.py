"""The mean of several checkpoints' weights, one tensor in memory at a time."""

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from plaudit import checkpoint
from plaudit.checkpoint import CheckpointError, Manifest

# What must be equal for weights to be averageable, and why a difference is refused.
SHARED = {
    "base.digest": "members of different bases lie in different basins",
    "base.run": "members of different fine-tuning runs lie in different basins",
    "head_init": "heads of different initialisation point in different directions",
    "digests.tokenizer": "token ids would mean different texts",
    "digests.template": "conversations would become different token ids",
    "truncation_side": "texts would be cut at different sides",
    "max_tokens": "texts would be cut at different places",
    "calibration.kind": "the average would get the kind of one of them",
}


def check(directories: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    """Refuse members that cannot be averaged; CheckpointError names the field and the member."""
    for field, reason in SHARED.items():
        first, *others = [_field(manifest, field) for manifest in manifests]
        for directory, other in zip(directories[1:], others, strict=True):
            if other != first:
                raise CheckpointError(
                    f"{directory}: {field} is {other}, {directories[0]} has {first}: {reason}"
                )


def _field(manifest: Manifest, path: str) -> Any:
    value: Any = manifest
    for name in path.split("."):
        value = getattr(value, name)
    return value


def average(directories: Sequence[Path], coefficients: Sequence[float], out: Path) -> None:
    """Write ``sum_m coefficient_m * weights_m`` to ``out``, summed wider and cast once.

    16-bit weights are summed in fp32, fp32 weights in fp64: the mean of copies is the copy.

    Members with LoRA were merged when they were written, so each layer's whole weight is averaged:
    the mean of the members' changes is mean(B_m A_m), while mean(B) mean(A) also holds each
    member's B with every other's A.

    Memory is one tensor of one member and its sum. Raises CheckpointError naming a tensor that
    members do not share.
    """
    for paths in files_of(directories):
        with (out / paths[0].name).open("wb") as file:
            # The average has the names, shapes and dtypes of its members, so their header too.
            file.write(_header(paths[0])[0])
            for _, tensor in averaged(paths, coefficients):
                _write(file, tensor)


def files_of(directories: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Each weight file of the members, of all of them side by side."""
    files = [checkpoint.weight_files(directory) for directory in directories]
    names = [[path.name for path in paths] for paths in files]
    if any(others != names[0] for others in names):
        raise CheckpointError(f"members are split into different files: {names}")
    return list(zip(*files, strict=True))


def averaged(
    paths: Sequence[Path], coefficients: Sequence[float], wanted: Container[str] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The name and the average of each tensor (or of those ``wanted``) of one file of every member,
    in the order of its data."""
    for name, tensors in side_by_side(paths):
        if wanted is None or name in wanted:
            yield name, _weighted_sum(name, tensors, coefficients)


def side_by_side(paths: Sequence[Path]) -> Iterator[tuple[str, Iterable[Tensor]]]:
    """Each tensor's name, and the tensors themselves, which are read as they are asked for."""
    _, names = _header(paths[0])
    with ExitStack() as stack:
        members = [stack.enter_context(safe_open(path, framework="pt")) for path in paths]
        for path, member in zip(paths, members, strict=True):
            _check_names(path, set(member.keys()), paths[0], set(names))
        for name in names:
            yield name, (member.get_tensor(name) for member in members)


def _header(path: Path) -> tuple[bytes, list[str]]:
    """The leading bytes of a safetensors file, and its tensors in the order of their data."""
    with path.open("rb") as file:
        length = file.read(8)
        text = file.read(int.from_bytes(length, "little"))
    entries = json.loads(text)
    entries.pop("__metadata__", None)
    return length + text, sorted(entries, key=lambda name: entries[name]["data_offsets"])


def _check_names(path: Path, names: set[str], first: Path, expected: set[str]) -> None:
    if names != expected:
        odd = sorted(names ^ expected)[:3]
        raise CheckpointError(f"{path} and {first} differ in tensor names: {odd}")


def _weighted_sum(name: str, tensors: Iterable[Tensor], coefficients: Sequence[float]) -> Tensor:
    total: Tensor | None = None
    for tensor, coefficient in zip(tensors, coefficients, strict=True):
        if total is None:
            dtype, shape = tensor.dtype, tensor.shape
            wide = torch.float32 if dtype.itemsize == 2 else torch.float64
            total = torch.zeros(shape, dtype=wide)
        if tensor.shape != shape or tensor.dtype != dtype:
            raise CheckpointError(
                f"tensor {name}: {tensor.dtype} {tuple(tensor.shape)} in one member, "
                f"{dtype} {tuple(shape)} in another"
            )
        total.add_(tensor.to(wide), alpha=coefficient)
    assert total is not None
    return total.to(dtype)


def _write(file: BinaryIO, tensor: Tensor) -> None:
    file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
