"""Pairs as the rows that TRL's trainers of the DPO family read."""

import random
from collections.abc import Sequence
from typing import Any, Literal

from datasets import Dataset

from training.data.shapes import Pair
from training.policy.chat import Chat

Row = dict[str, Any]


def rows_of(
    pairs: Sequence[Pair], kind: Literal["pairs", "singles", "texts"], chat: Chat, seed: int
) -> Dataset:
    """A dataset of one row a pair, or of two with ``singles``."""
    if kind == "singles":
        return Dataset.from_list(singles(pairs, seed))
    make = conversation if kind == "pairs" else lambda pair: texts(pair, chat)
    return Dataset.from_list([make(pair) for pair in pairs])


def conversation(pair: Pair) -> Row:
    return {
        "prompt": pair.asked,
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }


def texts(pair: Pair, chat: Chat) -> Row:
    """With the template on the prompt. TRL's experimental trainers would end a templated response
    twice: what stands behind the template's end token is not the end token."""
    prompt = chat.tokenizer.apply_chat_template(
        pair.asked, tokenize=False, add_generation_prompt=True
    )
    return {"prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected}


def singles(pairs: Sequence[Pair], seed: int) -> list[Row]:
    """The chosen and the rejected responses in turn, then each pair's other one.

    KTO holds a batch's responses against its other prompts, in the order of the rows: neighbours
    have different prompts where the pairs do, and each batch has as many of both kinds.
    """
    order = list(pairs)
    random.Random(seed).shuffle(order)
    return [
        single(pair, (place + turn) % 2 == 0) for turn in (0, 1) for place, pair in enumerate(order)
    ]


def single(pair: Pair, label: bool) -> Row:
    said = pair.chosen if label else pair.rejected
    answer = [{"role": "assistant", "content": said}]
    return {"prompt": pair.asked, "completion": answer, "label": label}
