"""Planning takes work in proportion to the tokens of all sequences, before any are shared.

A sort's logarithm is all that there is above that.
"""

import random
from collections.abc import Callable

import pytest
import torch
from counted_work import Ids, counted_ids, work_of

from plaudit.joint_model import Asked, join
from plaudit.packing import pack, pack_behind, packed_batches, padded_batches
from plaudit.prefix_cache import BLOCK, PrefixCache
from plaudit.reward_model import RewardModel
from plaudit.siblings import lay_out

CPU = torch.device("cpu")
BUDGET = 512
TURN = 20


def shuffled(sequences: list[list[int]]) -> list[Ids]:
    return [counted_ids(ids) for ids in random.Random(0).sample(sequences, len(sequences))]


def groups(count: int) -> list[Ids]:
    """Sixteen answers to each of many prompts, which overlap."""
    return shuffled(
        [
            [*range(group, group + 30), *range(answer, answer + 20)]
            for group in range(count)
            for answer in range(16)
        ]
    )


def history(turns: int) -> list[Ids]:
    """One conversation, judged after each of its turns, with two answers each time."""
    whole = [7 * token % 1000 for token in range(turns * TURN)]
    return shuffled(
        [
            [*whole[: turn * TURN], *range(answer, answer + 10)]
            for turn in range(1, turns + 1)
            for answer in (2000, 3000)
        ]
    )


def histories(count: int) -> list[Ids]:
    """Conversations of eight turns, each judged after every turn."""
    return shuffled(
        [
            [*range(one, one + turn * TURN), 2000]
            for one in range(0, 50 * count, 50)
            for turn in range(1, 9)
        ]
    )


def behind(found: list[Ids]):
    """Every other sequence is known but for its last block."""
    known = [max(0, (len(ids) - BLOCK) // BLOCK * BLOCK) * (i % 2) for i, ids in enumerate(found)]
    return pack_behind(found, known)


def recalled(found: list[Ids]):
    """By a cache that has seen every other sequence."""
    cache = PrefixCache(2**40)
    for some in (found[::2], found):
        recalled = cache.recall("model", some, 8, CPU)
        rows = torch.zeros(len(recalled.packed.ids) - recalled.packed.held, 1)
        recalled.memory.extend(rows, rows, 1)
        cache.keep(recalled)
    return recalled


PLANS: dict[str, Callable[[list[Ids]], object]] = {
    "pack": pack,
    "packed batches": lambda found: packed_batches(found, BUDGET),
    "padded batches": lambda found: padded_batches(found, BUDGET),
    "behind what is known": behind,
    "prefix cache": recalled,
    "attention": lambda found: lay_out(pack(found), 2, CPU),
    "attention behind what is known": lambda found: lay_out(behind(found), 2, CPU),
}
SHAPES = {"groups": (groups, 6, 24), "history": (history, 8, 24), "histories": (histories, 4, 16)}


def work_per_token(plan: Callable[[list[Ids]], object], found: list[Ids]) -> float:
    return work_of(lambda: plan(found)) / sum(map(len, found))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PLANS)
def test_work_grows_with_the_tokens(name, shape):
    made, few, many = SHAPES[shape]
    first = work_per_token(PLANS[name], made(few))
    last = work_per_token(PLANS[name], made(many))
    assert last < 1.4 * first


@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_of_a_joint_model_grows_with_the_tokens(
    shape, tmp_path, tiny_checkpoint, retrained_top
):
    paths = [tiny_checkpoint, retrained_top(tmp_path / "top", tiny_checkpoint)]
    (joint,) = join(RewardModel.load(path, device="cpu") for path in paths)

    def plan(found: list[Ids]) -> object:
        asked = [Asked(member, ids) for i, ids in enumerate(found) for member in range(1 + i % 2)]
        return joint.batches(asked, BUDGET)

    made, few, many = SHAPES[shape]
    assert work_per_token(plan, made(many)) < 1.4 * work_per_token(plan, made(few))
