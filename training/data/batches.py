"""Encoded pairs to the rows and batches of the trainer: a pair, or all pairs of a prompt, as one.

Letters: P judged pairs of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel

from plaudit.batch import PackedBatch, batch_for
from training.data.encoding import EncodedPair
from training.data.splits import by_prompt
from training.frozen_trunk import FrozenTrunk


def dataset(pairs: Sequence[EncodedPair], kwise: bool = False) -> Dataset:
    """One row a pair; with ``kwise`` one row a prompt, its distinct responses and all its pairs."""
    return Dataset.from_list([row(group) for group in groups(pairs, kwise)])


def groups(pairs: Sequence[EncodedPair], kwise: bool) -> list[list[EncodedPair]]:
    """Each pair by itself, or all pairs of a prompt together, in the order of their first."""
    if not kwise:
        return [[pair] for pair in pairs]
    return by_prompt(pairs, key=lambda pair: pair.pair)


def row(group: Sequence[EncodedPair]) -> dict[str, Any]:
    """Distinct sequences, the characters of their responses, which pairs of them were judged, the
    prompt that orders the data, and the length that groups padded batches."""
    place: dict[tuple[int, ...], int] = {}
    characters: list[int] = []

    def place_of(ids: Sequence[int], response: str) -> int:
        if tuple(ids) not in place:
            characters.append(len(response))
        return place.setdefault(tuple(ids), len(place))

    better = [
        [place_of(one.chosen, one.pair.chosen), place_of(one.rejected, one.pair.rejected)]
        for one in group
    ]
    return {
        "prompt": group[0].pair.first_turn,
        "sequences": [list(ids) for ids in place],
        "characters": characters,
        "better": better,
        "target_margin": [pair.pair.target_margin for pair in group],
        "soft_label": [pair.pair.soft_label for pair in group],
        "length": max(map(len, place)),
    }


@dataclass(frozen=True)
class Judged:
    """The judged pairs of a batch, tensors (P,): the sequences' numbers, the number of the row they
    belong to, and what is known of the label."""

    chosen: Tensor
    rejected: Tensor
    prompt: Tensor
    target_margin: Tensor
    soft_label: Tensor

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]], device: torch.device) -> "Judged":
        counts = [len(row["sequences"]) for row in rows]
        first = accumulate(counts[:-1], initial=0)
        better = [
            (winner + offset, loser + offset, number)
            for number, (row, offset) in enumerate(zip(rows, first, strict=True))
            for winner, loser in row["better"]
        ]
        chosen, rejected, prompt = torch.tensor(better, device=device).T
        margins, labels = (
            torch.tensor([value for row in rows for value in row[name]], device=device)
            for name in ("target_margin", "soft_label")
        )
        return cls(chosen, rejected, prompt, margins, labels)


class PairCollator:
    """Rows to one batch of their sequences, and which of them were judged; with a frozen trunk, its
    states."""

    def __init__(self, model: PreTrainedModel, trunk: FrozenTrunk | None = None):
        self._model, self._trunk = model, trunk

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        sequences = [ids for row in rows for ids in row["sequences"]]
        batch = batch_for(self._model, sequences)
        states = None
        if self._trunk is not None:
            assert isinstance(batch, PackedBatch)
            states = self._trunk.states(sequences, batch.plan.packed)
        return {
            "batch": batch,
            "states": states,
            "judged": Judged.of(rows, self._model.device),
            "characters": torch.tensor(
                [float(count) for row in rows for count in row["characters"]],
                device=self._model.device,
            ),
            "place": torch.tensor(first_places(sequences), device=self._model.device),
            "tokens": sum(map(len, sequences)),
        }


def first_places(sequences: Sequence[Sequence[int]]) -> list[int]:
    """Where each sequence stands for the first time."""
    found: dict[tuple[int, ...], int] = {}
    return [found.setdefault(tuple(ids), place) for place, ids in enumerate(sequences)]
