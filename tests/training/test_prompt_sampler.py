"""Pairs of one prompt come together, in an order that the seed and the epoch decide."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from training.data.prompt_sampler import PromptSampler

PROMPTS = ["a", "b", "a", "c", "b", "a", "d", "e", "f", "d"]


@given(st.lists(st.sampled_from("abcdef"), min_size=1), st.integers(0, 2**31), st.integers(0, 3))
def test_every_pair_comes_once_and_prompts_are_not_torn(prompts, seed, epoch):
    sampler = PromptSampler(prompts, seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(prompts))) == list(range(len(sampler)))
    runs = [prompt for prompt, _ in itertools.groupby(prompts[i] for i in order)]
    assert len(runs) == len(set(prompts))


def test_the_seed_and_the_epoch_decide_the_order():
    orders = set()
    for seed, epoch in ((0, 0), (0, 1), (5, 0)):
        sampler = PromptSampler(PROMPTS, seed)
        sampler.set_epoch(epoch)
        assert list(sampler) == list(sampler)
        orders.add(tuple(sampler))
    assert len(orders) == 3


def test_neither_prompts_nor_their_pairs_keep_the_order_of_the_file():
    orders = [list(PromptSampler(PROMPTS, seed)) for seed in range(20)]
    assert len({PROMPTS[order[0]] for order in orders}) > 2
    assert len({tuple(i for i in order if PROMPTS[i] == "a") for order in orders}) > 2
