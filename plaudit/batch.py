"""Sequences as tensors of one forward: a packed row, or padded rows.

Letters: N sequences, T the tokens of a row, or the longest of them in tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plaudit import attention
from plaudit.packing import MIN_SHARED, Packed, pack
from plaudit.prefix_cache import Memory
from plaudit.scalar_head import is_decoder


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


def can_pack(model: PreTrainedModel) -> bool:
    return is_decoder(model) and attention.is_proven(model.config)


def batch_for(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> Batch:
    """Sequences as the batch that ``model`` is scored with, on its device."""
    if can_pack(model):
        return PackedBatch.of(sequences, model.device)
    return PaddedBatch.of(sequences, model.config.pad_token_id, model.device)
