"""A reward model in torch: one forward, a pooled state, a head in fp32.

Letters: N sequences, T the longest of them in tokens, D the width.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from plaudit import attention, checkpoint, deterministic, flex, int8
from plaudit.by_rows import run_by_rows
from plaudit.checkpoint import CheckpointError, Manifest
from plaudit.conversation import Encoder
from plaudit.packing import MIN_SHARED, Packed, pack, packed_batches, padded_batches
from plaudit.prefix_cache import Memory

log = logging.getLogger("plaudit")

Scores = np.ndarray[Any, np.dtype[np.float32]]
Device = Literal["auto", "cpu", "cuda"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What a body is loaded in; int8 is made of it (plaudit/int8.py).
LOADED_IN = {**DTYPES, int8.NAME: torch.bfloat16}


def is_decoder(model: PreTrainedModel) -> bool:
    """Decoder classifiers of Transformers name their head ``score`` and read the last token."""
    return isinstance(getattr(model, "score", None), nn.Linear)


def can_pack(model: PreTrainedModel) -> bool:
    return is_decoder(model) and attention.is_proven(model.config)


@cache
def say_padded(model_type: str) -> None:
    """Once for each type, since it costs speed and nothing else."""
    log.warning(
        "%s models run in padded batches: the packed forward is proven for %s",
        model_type,
        ", ".join(sorted(attention.PROVEN)),
    )


@dataclass(frozen=True)
class PackedBatch:
    """One row (1, T) of ids to compute with their positions, where each sequence ends (N,), and the
    plan of the whole row."""

    ids: Tensor
    positions: Tensor
    ends: Tensor
    plan: attention.Plan

    @classmethod
    def of(
        cls,
        sequences: Sequence[Sequence[int]],
        device: torch.device,
        min_shared: int = MIN_SHARED,
    ) -> "PackedBatch":
        return cls.planned(pack(sequences, min_shared), device)

    @classmethod
    def planned(
        cls, packed: Packed, device: torch.device, memory: Memory | None = None
    ) -> "PackedBatch":
        """Of the computed tokens of a plan, whose held ones are in ``memory``."""
        ids, positions, ends = (
            torch.tensor(x, device=device) for x in (packed.ids, packed.positions(), packed.ends)
        )
        known = packed.held
        plan = attention.Plan(packed, device, memory)
        return cls(ids[None, known:], positions[None, known:], ends - known, plan)

    @property
    def tokens(self) -> int:
        """Tokens that the batch sends through a model."""
        return self.ids.shape[1]

    @property
    def padding(self) -> int:
        return 0


@dataclass(frozen=True)
class PaddedBatch:
    """Right-padded ids (N, T) and lengths (N,)."""

    ids: Tensor
    lengths: Tensor

    @classmethod
    def of(
        cls, sequences: Sequence[Sequence[int]], pad_token_id: int, device: torch.device
    ) -> "PaddedBatch":
        lengths = torch.tensor([len(s) for s in sequences], device=device)
        ids = torch.full((len(sequences), int(lengths.max())), pad_token_id, device=device)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence, device=device)
        return cls(ids, lengths)

    @property
    def tokens(self) -> int:
        """Tokens that the batch sends through a model, besides its padding."""
        return int(self.lengths.sum())

    @property
    def padding(self) -> int:
        return self.ids.numel() - self.tokens


Batch = PackedBatch | PaddedBatch


def batch_for(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> Batch:
    """Sequences as the batch that ``model`` is scored with, on its device."""
    if can_pack(model):
        return PackedBatch.of(sequences, model.device)
    return PaddedBatch.of(sequences, model.config.pad_token_id, model.device)


def scores(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Raw scores (N,), fp32, of a batch's sequences in their order. Differentiable."""
    return apply_head(model, pooled_states(model, batch))


def pooled_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """What the head reads of each sequence, (N, D). Differentiable."""
    if isinstance(batch, PackedBatch):
        return packed_states(model, batch)
    mask = torch.arange(batch.ids.shape[1], device=batch.ids.device) < batch.lengths[:, None]
    inputs = {"input_ids": batch.ids, "attention_mask": mask.long()}
    if not is_decoder(model):
        return read_by_head(model, inputs)
    hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
    found: Tensor = hidden[torch.arange(len(hidden)), batch.lengths - 1]
    return found


def read_by_head(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """Encoders pool, each in its own way, inside their classifiers: it is seen at the head."""
    read: list[Tensor] = []
    handle = head(model).register_forward_pre_hook(lambda _, args: read.append(args[0]))
    try:
        model(**inputs)
    finally:
        handle.remove()
    return read[0]


def packed_states(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """Last hidden state (N, D) of each sequence of a packed row."""
    use_packed_attention(model)
    return run_packed(model.base_model, batch, input_ids=batch.ids)[0, batch.ends]


def run_packed(body: nn.Module, batch: PackedBatch, **inputs: Tensor) -> Tensor:
    """Hidden states (1, T, D) of ids or embeddings by a body, or a part of one, that packs."""
    hidden: Tensor = body(
        **inputs, position_ids=batch.positions, use_cache=False, plan=batch.plan
    ).last_hidden_state
    return hidden


def use_packed_attention(model: PreTrainedModel) -> None:
    if model.config._attn_implementation not in (attention.NAME, deterministic.NAME, flex.NAME):
        model.set_attn_implementation(attention.NAME)


def apply_head(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Pooled states (N, D) to scores (N,), both in fp32 also under autocast."""
    found = head(model)
    bias = None if found.bias is None else found.bias.float()
    project: Callable[[Tensor], Tensor] = partial(
        nn.functional.linear, weight=found.weight.float(), bias=bias
    )
    if deterministic.is_deterministic(model):
        project = deterministic.in_pieces(project)
    with torch.autocast(states.device.type, enabled=False):
        return project(states.float())[:, 0]


def head(model: PreTrainedModel) -> nn.Linear:
    """The scalar head: ``score`` of a decoder, the last linear layer of an encoder's classifier."""
    if is_decoder(model):
        found: nn.Linear = model.score
        return found
    linear = [m for m in model.classifier.modules() if isinstance(m, nn.Linear)]
    return linear[-1]


def keep_head_fp32(model: PreTrainedModel, directory: Path) -> None:
    """Hold the head in fp32 whatever the body's dtype: scores that differ by little tie in bf16.

    Its tensors are read again: loading in bf16 has rounded those of an fp32 checkpoint.
    """
    found = head(model).float()
    owned = {id(parameter) for parameter in found.parameters()}
    tensors = {name: p for name, p in model.named_parameters() if id(p) in owned}
    for path in checkpoint.weight_files(directory):
        with safe_open(path, framework="pt") as file:
            for name in tensors.keys() & set(file.keys()):
                tensors[name].data.copy_(file.get_tensor(name))
    found.register_forward_pre_hook(lambda _, args: (args[0].float(), *args[1:]))


def load_classifier(directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The one-label classifier in ``directory``; a head that is not in the file is refused."""
    checkpoint.check_config(directory)
    checkpoint.weight_files(directory)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        directory,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if info["missing_keys"]:
        raise CheckpointError(
            f"{directory}: {sorted(info['missing_keys'])} not in the weights, so they would be "
            "random; train this model first: plaudit train"
        )
    return model


def pick_device(device: Device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


class RewardModel:
    """A loaded member: its manifest, its revision, its encoder and its forward."""

    def __init__(self, model: PreTrainedModel, encoder: Encoder, manifest: Manifest, revision: str):
        self.classifier = model.eval()
        if can_pack(model) and model.device.type == "cpu":
            run_by_rows(model)
        elif is_decoder(model) and not can_pack(model):
            say_padded(model.config.model_type)
        self.encoder = encoder
        self.manifest = manifest
        self.revision = revision

    @classmethod
    def load(
        cls,
        directory: str | Path,
        device: Device = "auto",
        dtype: str = "float32",
        max_tokens: int = 4096,
    ) -> "RewardModel":
        """Load a checkpoint (or a plain Hugging Face reward model, cut at ``max_tokens``)."""
        path = Path(directory)
        manifest, revision = checkpoint.describe(path, max_tokens)
        return cls.open(path, manifest, revision, device, dtype)

    @classmethod
    def open(
        cls, directory: Path, manifest: Manifest, revision: str, device: Device, dtype: str
    ) -> "RewardModel":
        """The weights of ``directory`` under a manifest that need not be on disk yet."""
        model = load_classifier(directory, LOADED_IN[dtype]).to(pick_device(device))
        if dtype == int8.NAME:
            int8.quantise(model)
        keep_head_fp32(model, directory)
        encoder = Encoder.load(directory, manifest.max_tokens)
        return cls(model, encoder, manifest, revision)

    def make_deterministic(self) -> None:
        """From now on no bit of a score depends on what else is in its forward."""
        self._refuse_padded("where a score depends on its neighbours", "--deterministic")
        deterministic.make_deterministic(self.classifier)

    def use_flex_attention(self) -> None:
        """From now on attention is torch's FlexAttention; it scores, and cannot train."""
        self._refuse_padded("with the attention of Transformers", "--attention flex")
        self.classifier.set_attn_implementation(flex.NAME)

    def _refuse_padded(self, how: str, option: str) -> None:
        if not self.packs:
            raise CheckpointError(
                f"{self.classifier.config.model_type} models run in padded batches, {how}: leave "
                f"{option} out"
            )

    @property
    def packs(self) -> bool:
        """Whether sequences of a batch share the computation of their common prefixes."""
        return can_pack(self.classifier)

    @torch.inference_mode()
    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        """Raw scores (N,) of one batch, in order."""
        return scores(self.classifier, batch_for(self.classifier, sequences)).cpu().numpy()

    def batches(self, sequences: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
        """Positions of the sequences that go into each forward of at most ``max_tokens``."""
        plan = packed_batches if self.packs else padded_batches
        return plan(sequences, max_tokens)

    def score_all(self, sequences: Sequence[Sequence[int]], max_tokens: int = 4096) -> Scores:
        """Raw scores (N,) of any number of sequences, in order."""
        found = np.empty(len(sequences), np.float32)
        for batch in self.batches(sequences, max_tokens):
            found[batch] = self.score([sequences[i] for i in batch])
        return found
