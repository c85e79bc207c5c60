"""Hidden states under the blocks that train, computed once for all epochs and members.

Frozen blocks give the same states at every visit. With the top third of the blocks training, two
fifths of a step's work go into the others; members of an ensemble share the file.
Letters: T tokens of a packed row, D width.
"""

import glob
import hashlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from plaudit.batch import PackedBatch
from plaudit.blocks import can_split, lower, upper
from plaudit.checkpoint import ids_digest, sha256
from plaudit.forward import run_packed
from plaudit.packing import MIN_SHARED, Packed, pack, packed_batches
from plaudit.reward_model import pick_device
from training.settings import SettingsError
from training.shared_files import alone

# Tokens of one forward; it sets the layout of the file too.
MAX_TOKENS = 4096
Ids = tuple[int, ...]


class FrozenTrunk:
    """States of known sequences after the lowest ``depth`` blocks, and the blocks above them.

    ``states`` (rows, D): each prefix that sequences of one forward share stands there once.
    """

    def __init__(
        self, model: PreTrainedModel, depth: int, batches: Sequence[Sequence[Ids]], states: Tensor
    ):
        self.upper: nn.Module = upper(model, depth)
        self._states = states
        self._rows = rows_of(batches)

    def states(self, sequences: Sequence[Sequence[int]], packed: Packed) -> Tensor:
        """States (1, T, D) of ``packed``, the row of ``sequences``, in fp32."""
        rows = np.empty(len(packed.ids), np.int64)
        for sequence, walk in zip(sequences, packed.walks(), strict=True):
            known = self._rows[tuple(sequence)]
            for node in walk:
                length = node.stop - node.start
                rows[node.start : node.stop] = known[node.first_position :][:length]
        return self._states[torch.from_numpy(rows)][None].float()


def rows_of(
    batches: Sequence[Sequence[Ids]],
) -> dict[Ids, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The row of each token of each sequence."""
    found = {}
    offset = 0
    for batch in batches:
        packed = pack(batch)
        for sequence, walk in zip(batch, packed.walks(), strict=True):
            parts = [np.arange(node.start, node.stop) for node in walk]
            found[sequence] = np.concatenate(parts) + offset
        offset += len(packed.ids)
    return found


def compute(
    model: PreTrainedModel, depth: int, batches: Sequence[Sequence[Ids]], dtype: torch.dtype
) -> Tensor:
    """States (rows, D) of all batches, in ``dtype``, under autocast to it, on the CPU."""
    model.to(pick_device("auto"))  # where the trainer will train it
    trunk = lower(model, depth)
    parts = []
    autocast = torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32)
    with torch.no_grad(), autocast:
        for batch in tqdm(batches, desc="frozen blocks"):
            packed = PackedBatch.of(batch, model.device)
            parts.append(run_packed(trunk, packed, input_ids=packed.ids)[0].to("cpu", dtype))
    return torch.cat(parts)


def open_trunk(
    path: Path, model: PreTrainedModel, depth: int, sequences: set[Ids], dtype: torch.dtype
) -> FrozenTrunk:
    """The trunk in ``path``, which is computed first if there is none.

    Refuses a file made of other frozen weights, depth, dtype or set of sequences.
    """
    if not can_split(model):
        raise SettingsError(
            f"trunk_cache: {model.config.model_type} models cannot be split; remove it"
        )
    ordered = sorted(sequences)
    layout = f"{depth} {dtype} {MAX_TOKENS} {MIN_SHARED}"
    ids = (ids_digest(sequence).encode() for sequence in ordered)
    digest = sha256(weights_digest(lower(model, depth)).encode(), layout.encode(), *ids)
    # The forwards that compute the states; they alone decide the rows of the file.
    batches = [[ordered[i] for i in batch] for batch in packed_batches(ordered, MAX_TOKENS)]
    with alone(path):
        if not path.exists():
            write(path, compute(model, depth, batches, dtype), digest)
    return FrozenTrunk(model, depth, batches, read(path, digest))


def weights_digest(trunk: nn.Module) -> str:
    """Of the frozen weights alone, in fp32: a run and those that go on from it share their states,
    in whichever dtype each holds what it does not train."""
    parts = []
    for name, weight in sorted(trunk.state_dict().items()):
        content = weight.float().cpu().numpy().tobytes()
        parts += [name.encode(), hashlib.sha256(content).digest()]
    return sha256(*parts)


def write(path: Path, states: Tensor, digest: str) -> None:
    """Whole or not at all. The caller holds the lock of ``path``, so that what others have begun
    is a killed writer's, and goes.

    The name is this process's own: on a volume whose locks other machines do not see, two writers
    never write one file, and the one whose file went fails.
    """
    begun = f".{path.name}.unfinished"
    for left in path.parent.glob(f"{glob.escape(begun)}*"):
        left.unlink(missing_ok=True)
    unfinished = path.with_name(f"{begun}.{socket.gethostname()}.{os.getpid()}")
    try:
        save_file({"states": states}, unfinished, {"digest": digest})
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path, digest: str) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("digest")
            states: Tensor = file.get_tensor("states") if found == digest else torch.empty(0)
    except SafetensorError as error:
        raise SettingsError(f"trunk_cache {path}: {error}; remove it") from None
    if found != digest:
        raise SettingsError(
            f"trunk_cache {path} was made of other data, other frozen weights or other settings; "
            "remove it or name another file"
        )
    return states
