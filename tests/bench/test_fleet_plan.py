"""The simulated forwards are those that the service would make of real token ids."""

import asyncio
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simpy
from fleet_plan import Prefixes, Sized, computed, plan
from fleet_replica import Costs, Limits, Replica, Request

from plaudit.joint_model import Asked, Computed
from plaudit.packing import pack, pack_behind, packed_batches
from plaudit.prefix_cache import BLOCK
from service.batcher import Batcher
from service.fair_queue import Caller
from service.metrics import Metrics


def rollouts(seed: int, count: int) -> list[Sized]:
    """Groups of one to six, prompts of 1 to 80 tokens, shuffled."""
    spread = random.Random(seed)
    found: list[Sized] = []
    while len(found) < count:
        prompt, asked = len(found), spread.randint(1, 80)
        for _ in range(spread.randint(1, 6)):
            found.append(Sized(prompt, len(found), asked, spread.randint(1, 60)))
    spread.shuffle(found)
    return found


def ids(sequence: Sized) -> list[int]:
    """Token ids that share their prompt alone, in the order of prompts and responses."""
    prompt = [sequence.prompt * 2] * sequence.prompt_tokens
    return [*prompt, *[100_000 + sequence.response] * sequence.response_tokens]


@pytest.mark.parametrize("seed", range(5))
def test_a_window_is_cut_into_the_forwards_that_packing_makes_of_its_ids(seed: int) -> None:
    found = rollouts(seed, 60)

    assert plan(found, 300) == packed_batches([ids(one) for one in found], 300)


@pytest.mark.parametrize("seed", range(5))
def test_a_forward_computes_the_tokens_that_packing_lays_in_its_row(seed: int) -> None:
    found = rollouts(seed, 20)

    assert computed(found) == len(pack([ids(one) for one in found]).ids)


def test_blocks_of_a_remembered_prompt_are_not_computed_again() -> None:
    found = [Sized(0, response, 100, 30) for response in range(4)]
    prefixes = Prefixes(10_000)
    prefixes.keep(found)
    row = pack_behind([ids(one) for one in found], [100 // BLOCK * BLOCK] * 4)

    assert computed(found, prefixes) == len(row.ids) - row.held


def test_a_prompt_used_long_ago_is_forgotten() -> None:
    old, new = Sized(0, 0, 64, 64), Sized(1, 1, 64, 64)
    prefixes = Prefixes(128)
    prefixes.keep([old])
    prefixes.keep([new])

    assert not prefixes.holds(old)
    assert prefixes.holds(new)


class Recording:
    """What the batcher asks of a model, noted; nothing is computed."""

    def __init__(self) -> None:
        self.forwards: list[list[tuple[int, ...]]] = []

    def batches(self, asked: Sequence[Asked], max_tokens: int) -> list[list[int]]:
        return packed_batches([one.ids for one in asked], max_tokens)

    def compute(self, asked: Sequence[Asked]) -> Computed:
        self.forwards.append([tuple(one.ids) for one in asked])
        tokens = sum(len(one.ids) for one in asked)
        return Computed(np.zeros(len(asked), np.float32), tokens, 0)


async def forwards_of_the_service(requests: list[list[Sized]]) -> list[list[tuple[int, ...]]]:
    recording = Recording()
    with ThreadPoolExecutor(1) as thread:
        batcher = Batcher(thread, Metrics(), max_batch_tokens=500, linger_seconds=0)
        callers = [(Caller(), request) for request in requests]
        works = [
            batcher.submit(recording, Asked(0, ids(one)), caller)
            for caller, some in callers
            for one in some
        ]
        await asyncio.gather(*(work.done for work in works))
        await batcher.close()
    return recording.forwards


class Noting(Replica):
    """A simulated replica that notes its forwards."""

    def __init__(self, env: simpy.Environment):
        limits = Limits(batch_tokens=500, linger_seconds=0)
        super().__init__(env, Costs(1.0, 0.0, 0.0), limits, [])
        self.forwards: list[list[tuple[int, ...]]] = []

    def _compute(self, batch):
        self.forwards.append([tuple(ids(one.sequence)) for one in batch])
        return super()._compute(batch)


async def test_forwards_come_in_the_order_of_the_services_batcher() -> None:
    found = sorted(rollouts(7, 120), key=lambda one: one.prompt % 9)
    requests = [[one for one in found if one.prompt % 9 == number] for number in range(9)]
    env = simpy.Environment()
    simulated = Noting(env)
    for request in requests:
        simulated.submit(Request(request, 0.0))
    env.run(1000)

    assert simulated.forwards == await forwards_of_the_service(requests)
    assert len(simulated.forwards) > 10
