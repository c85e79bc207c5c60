"""How long an idle engine waits for company, in virtual time."""

import asyncio

import numpy as np
import pytest
import virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st
from in_loop import InLoop
from noted_forwards import NotedForwards

from plaudit.joint_model import Asked
from service.batcher import LINGER_STEP, Batcher
from service.fair_queue import Caller
from service.metrics import Metrics

METRICS = Metrics()
CALLER = Caller(client="ppo")
LINGER = 0.002
ROUNDING = 1e-9


def forwards(arrivals: list[float], linger: float = LINGER, seconds: float = 0.0):
    """When each forward begins and the arrivals it has; planning takes ``seconds``, and so does a
    forward."""

    async def story() -> list[tuple[float, list[int]]]:
        model, loop = NotedForwards(), asyncio.get_running_loop()
        batcher = Batcher(InLoop(seconds), METRICS, max_batch_tokens=10**6, linger_seconds=linger)
        works = []
        for number, at in enumerate(arrivals):
            await asyncio.sleep(at - loop.time())
            works.append(batcher.submit(model, Asked(0, [number]), CALLER))
        await asyncio.wait([work.done for work in works])
        await batcher.close()
        return model.forwards

    return virtual_time.run(story())


def test_a_lone_caller_waits_for_one_step():
    assert LINGER_STEP == 0.0005
    assert forwards([0.0]) == [(pytest.approx(LINGER_STEP), [0])]


@pytest.mark.parametrize("linger", [0.0, 0.0002])
def test_nobody_waits_longer_than_allowed(linger):
    assert forwards([0.0], linger) == [(pytest.approx(linger), [0])]


def test_a_stream_is_gathered_into_one_forward_until_the_linger_is_over():
    stream = [0.0003 * number for number in range(12)]
    first, *_ = forwards(stream)
    assert first == (pytest.approx(LINGER), [number for number in range(12) if number < 7])


def test_company_that_ends_is_not_waited_for_further():
    assert forwards([0.0, 0.0001, 0.0002]) == [(pytest.approx(2 * LINGER_STEP), [0, 1, 2])]


def test_what_comes_while_a_forward_runs_does_not_linger():
    begins = LINGER_STEP + 1.0  # after a second of planning
    assert forwards([0.0, begins + 0.1, begins + 0.9], seconds=1.0) == [
        (pytest.approx(begins), [0]),
        (pytest.approx(begins + 1.0 + 1.0), [1, 2]),
    ]


@settings(max_examples=200)
@given(st.lists(st.floats(0.0, 0.0009), min_size=1, max_size=12), st.floats(0.0, 0.004))
def test_the_first_forward_begins_a_moment_after_the_last_that_came(gaps, linger):
    """At most two steps later, since what comes within one is waited for with another."""
    arrivals = np.cumsum(gaps).tolist()
    begins, gathered = forwards(arrivals, linger)[0]
    assert begins <= arrivals[0] + linger + ROUNDING
    assert begins <= arrivals[gathered[-1]] + 2 * LINGER_STEP + ROUNDING
    assert gathered == [*range(len(gathered))]
    assert all(at >= begins - ROUNDING for at in arrivals[len(gathered) :])
