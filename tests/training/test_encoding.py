"""Pairs to token ids: what is too long is dropped or cut, and counted."""

from dataclasses import replace

import pytest
import torch

from plaudit.conversation import Encoder
from training.data.batches import Judged, dataset
from training.data.encoding import encode
from training.data.shapes import Pair

PROMPT = ({"role": "user", "content": "Hi"},)
SHORT = Pair(PROMPT, "Yes", "No", "s", "c")
LONG = Pair(PROMPT, "Yes", "No" * 40, "s", "c")


def encoder(tokenizer, max_tokens: int) -> Encoder:
    return Encoder(tokenizer, len(tokenizer), max_tokens)


def test_pairs_are_encoded_as_conversations(tokenizer):
    ((found,), over) = encode([SHORT], encoder(tokenizer, 64), None)
    assert found.chosen == encoder(tokenizer, 64).pair("Hi", "Yes")
    assert found.rejected == encoder(tokenizer, 64).pair("Hi", "No")
    assert over == 0


def test_a_long_pair_is_dropped_and_counted(tokenizer):
    found, over = encode([SHORT, LONG], encoder(tokenizer, 64), None)
    assert [one.pair for one in found] == [SHORT]
    assert over == 1


@pytest.mark.parametrize(("side", "kept"), [("left", slice(-64, None)), ("right", slice(64))])
def test_a_long_pair_is_cut_at_the_named_side_and_counted(tokenizer, side, kept):
    (found,), over = encode([LONG], encoder(tokenizer, 64), side)
    whole = encoder(tokenizer, 512).pair("Hi", "No" * 40)
    assert found.rejected == whole[kept]
    assert found.chosen == encoder(tokenizer, 64).pair("Hi", "Yes")
    assert over == 1


def test_the_length_of_a_row_is_that_of_its_longer_half(tokenizer):
    (found,), _ = encode([LONG], encoder(tokenizer, 512), None)
    assert dataset([found])[0]["length"] == len(found.rejected) > len(found.chosen)


def test_what_is_known_of_a_label_goes_with_its_pair(tokenizer):
    pair = replace(SHORT, target_margin=0.5, soft_label=0.75)
    (found,), _ = encode([pair], encoder(tokenizer, 64), None)
    judged = Judged.of([dataset([found])[0]], torch.device("cpu"))
    assert (judged.target_margin.tolist(), judged.soft_label.tolist()) == ([0.5], [0.75])
