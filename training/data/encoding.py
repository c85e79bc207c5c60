"""Pairs to token ids, and to the padded batches of the trainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from plaudit.checkpoint import Side
from plaudit.conversation import Encoder
from plaudit.reward_model import PackedBatch, batch_for
from training.data.sources import Pair
from training.frozen_trunk import FrozenTrunk


@dataclass(frozen=True, slots=True)
class EncodedPair:
    pair: Pair
    chosen: list[int]
    rejected: list[int]


def encode(
    pairs: Sequence[Pair], encoder: Encoder, cut: Side | None
) -> tuple[list[EncodedPair], int]:
    """Encoded pairs, and how many were over ``max_tokens``: cut at a side, or dropped (None)."""
    encoded: list[EncodedPair] = []
    over = 0
    for pair in pairs:
        chosen = encoder.pair(pair.prompt, pair.chosen)
        rejected = encoder.pair(pair.prompt, pair.rejected)
        if max(len(chosen), len(rejected)) > encoder.max_tokens:
            over += 1
            if cut is None:
                continue
            chosen = encoder.fit(chosen, cut).ids
            rejected = encoder.fit(rejected, cut).ids
        encoded.append(EncodedPair(pair, chosen, rejected))
    return encoded, over


def dataset(pairs: Sequence[EncodedPair]) -> Dataset:
    """Token ids of both responses, their prompt, and the length that groups padded batches."""
    return Dataset.from_dict(
        {
            "prompt": [pair.pair.first_turn for pair in pairs],
            "chosen": [pair.chosen for pair in pairs],
            "rejected": [pair.rejected for pair in pairs],
            "length": [max(len(pair.chosen), len(pair.rejected)) for pair in pairs],
        }
    )


class PairCollator:
    """B pairs to one batch of 2B sequences, the chosen first; with a frozen trunk, its states."""

    def __init__(self, model: PreTrainedModel, trunk: FrozenTrunk | None = None):
        self._model, self._trunk = model, trunk

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        sequences = [row["chosen"] for row in rows] + [row["rejected"] for row in rows]
        tokens = sum(len(sequence) for sequence in sequences)
        batch = batch_for(self._model, sequences)
        states = None
        if self._trunk is not None:
            assert isinstance(batch, PackedBatch)
            states = self._trunk.states(sequences, batch.plan.packed)
        return {"batch": batch, "states": states, "tokens": tokens}
