"""Pairs to token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.checkpoint import Side
from plaudit.conversation import Encoder
from training.data.shapes import Pair


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
        chosen = encoder.pair(pair.asked, pair.chosen)
        rejected = encoder.pair(pair.asked, pair.rejected)
        if max(len(chosen), len(rejected)) > encoder.max_tokens:
            over += 1
            if cut is None:
                continue
            chosen = encoder.fit(chosen, cut).ids
            rejected = encoder.fit(rejected, cut).ids
        encoded.append(EncodedPair(pair, chosen, rejected))
    return encoded, over
