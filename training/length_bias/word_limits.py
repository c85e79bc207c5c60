"""Prompts that limit the length of the answer, so that it depends on the prompt which side wins.

After length-instruction fine-tuning (arXiv:2406.17744): an answer beyond the limit loses, however
good it is. Half the limits lie between the two sides, half above both, where the label stays: the
number must be read.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from training.data.shapes import Pair


def with_limits(pairs: Iterable[Pair], share: float) -> list[Pair]:
    """Limited twins of a ``share`` of the pairs, chosen by digest; sides of equally many words have
    none."""
    found = []
    for pair in pairs:
        chance, place = _draws(pair)
        if chance < share and _words(pair.chosen) != _words(pair.rejected):
            found.append(limited(pair, place))
    return found


def limited(pair: Pair, place: float) -> Pair:
    """A twin with a limit: below the longer side for a ``place`` in [0, 1) under one half, where
    the shorter side wins for certain, else at most twice the longer side."""
    shorter, longer = sorted((pair.chosen, pair.rejected), key=_words)
    low, high = _words(shorter), _words(longer)
    if place >= 0.5:
        return replace(pair, word_limit=high + int((2 * place - 1) * (high + 1)))
    return replace(
        pair,
        word_limit=low + int(2 * place * (high - low)),
        chosen=shorter,
        rejected=longer,
        target_margin=0.0,
        soft_label=1.0,
    )


def _words(response: str) -> int:
    return len(response.split())


def _draws(pair: Pair) -> tuple[float, float]:
    """Two numbers in [0, 1) that follow from the pair alone."""
    texts = (*(content for _, content in pair.turns), pair.chosen, pair.rejected)
    digest = hashlib.sha256("\0".join(texts).encode()).digest()
    first, second = (int.from_bytes(half, "big") for half in (digest[:6], digest[6:12]))
    return first / 2**48, second / 2**48
