"""Pairs as the token ids that the trainers of the DPO family read.

A response is what the policy would have to sample: up to the end token, and without one where it
was cut.
"""

import random
from collections.abc import Sequence
from typing import Any, Literal

from datasets import Dataset

from training.data.shapes import Pair
from training.policy.chat import Chat

Row = dict[str, Any]


def rows_of(
    pairs: Sequence[Pair], kind: Literal["pairs", "singles"], chat: Chat, seed: int
) -> Dataset:
    """A dataset of one row a pair, or of two with ``singles``."""
    if kind == "singles":
        return Dataset.from_list([single(*one, chat) for one in singles(pairs, seed)])
    return Dataset.from_list([row_of(pair, chat) for pair in pairs])


def row_of(pair: Pair, chat: Chat) -> Row:
    of_chosen, of_rejected = pair.finished
    return {
        "prompt_ids": chat.prompt(pair.asked),
        "chosen_ids": chat.response(pair.asked, pair.chosen, of_chosen),
        "rejected_ids": chat.response(pair.asked, pair.rejected, of_rejected),
    }


def singles(pairs: Sequence[Pair], seed: int) -> list[tuple[Pair, bool]]:
    """The chosen (true) and the rejected responses in turn, then each pair's other one.

    KTO holds a batch's responses against its other prompts, in the order of the rows: neighbours
    have different prompts where the pairs do, and each batch has as many of both kinds.
    """
    order = list(pairs)
    random.Random(seed).shuffle(order)
    return [(pair, (place + turn) % 2 == 0) for turn in (0, 1) for place, pair in enumerate(order)]


def single(pair: Pair, label: bool, chat: Chat) -> Row:
    row = row_of(pair, chat)
    completion = row["chosen_ids" if label else "rejected_ids"]
    return {"prompt_ids": row["prompt_ids"], "completion_ids": completion, "label": label}
