"""Canaries: probes scored again through the real engine, and what their silence means."""

import asyncio
import math
from types import SimpleNamespace

import numpy as np
import pytest

from plaudit.joint_model import Asked
from service.canary import PATIENCE, SLACK, Bird, Canary
from service.engines.torch_engine import TorchEngine
from service.health import Health
from service.metrics import Metrics
from service.registry import Registry
from service.settings import Settings
from service.sources import sources
from service.work import EngineFault, Work, settle

PERIOD = 15.0


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class Queue:
    """Settles by hand what is submitted."""

    def __init__(self):
        self.works = []

    def submit(self, ids, caller):
        self.works.append(Work(Asked(0, ids), caller, asyncio.get_running_loop().create_future()))
        return self.works[-1]


@pytest.fixture
async def engine(metrics, members):
    read = Settings(models=members[:1], dtype="float32", device="cpu", _cli_parse_args=False)
    engine = TorchEngine(read, metrics)
    engine.registry = await Registry.open(engine, sources(read), metrics)
    yield engine
    await engine.close()


@pytest.fixture
def member(engine):
    return engine.registry.members["m0"]


def by_hand(member, queue):
    """The member, with ``queue`` for its engine."""
    known = {name: getattr(member, name) for name in ("name", "manifest", "encoder", "revision")}
    return SimpleNamespace(**known, submit=queue.submit)


async def heard(bird):
    async with asyncio.timeout(60):
        while bird._waiting:
            await asyncio.wait(bird._waiting)
            await asyncio.sleep(0)


async def test_a_canary_goes_through_the_engine_and_finds_the_promised_scores(
    member, metrics, clock
):
    bird = Bird(member, 1e-3, metrics, clock)
    before = metrics.registry.get_sample_value("plaudit_tokens_total", {"kind": "real"}) or 0
    bird.send(0)
    clock.now += 7
    await heard(bird)
    value = metrics.registry.get_sample_value
    assert value("plaudit_tokens_total", {"kind": "real"}) > before
    assert value("plaudit_canary_score_drift", {"model": "m0"}) <= 1e-5
    assert value("plaudit_canary_score_tolerance", {"model": "m0"}) == 1e-3
    assert value("plaudit_canary_age_seconds", {"model": "m0"}) == 0
    clock.now += 4
    assert value("plaudit_canary_age_seconds", {"model": "m0"}) == 4


async def test_weights_that_change_under_the_server_show_as_drift(engine, member, metrics, clock):
    bird = Bird(member, 1e-3, metrics, clock)
    bird.send(0)
    await heard(bird)
    [seat] = engine._seats.values()
    head = seat.joint.members[0].classifier.score.weight
    head.data += 0.1
    try:
        for turn in range(1, 4):
            bird.send(turn)
            await heard(bird)
    finally:
        head.data -= 0.1
    value = metrics.registry.get_sample_value
    assert value("plaudit_canary_score_drift", {"model": "m0"}) > 1e-2
    assert value("plaudit_batch_invariance_max_abs_diff", {"model": "m0"}) > 1e-2


async def test_company_changes_a_score_by_as_much_as_is_told(member, metrics, clock):
    queue = Queue()
    bird = Bird(by_hand(member, queue), 1e-3, metrics, clock)
    bird.send(0)
    settle(queue.works, scores=np.zeros(len(queue.works)))
    await heard(bird)
    bird.send(1)
    settle(queue.works[-1:], scores=np.array([0.25]))
    await heard(bird)
    value = metrics.registry.get_sample_value
    assert value("plaudit_batch_invariance_max_abs_diff", {"model": "m0"}) == 0.25
    assert {work.caller.priority for work in queue.works} == {"offline"}
    assert {work.caller.client for work in queue.works} == {None}


async def test_a_nan_is_drift_and_leaves_what_company_does_as_it_was(member, metrics, clock):
    queue = Queue()
    bird = Bird(by_hand(member, queue), 1e-3, metrics, clock)
    for turn, score in enumerate((math.nan, 0.5, 0.75)):
        bird.send(turn and turn * len(bird._ids))
        open_works = [work for work in queue.works if not work.done.done()]
        settle(open_works, scores=np.full(len(open_works), score))
        await heard(bird)
    value = metrics.registry.get_sample_value
    assert value("plaudit_batch_invariance_max_abs_diff", {"model": "m0"}) == 0.25


async def test_all_probes_go_first_then_one_and_none_while_some_are_on_their_way(
    member, metrics, clock
):
    queue = Queue()
    bird = Bird(by_hand(member, queue), 1e-3, metrics, clock)
    bird.send(0)
    probes = len(queue.works)
    assert probes == len(member.manifest.probes)
    bird.send(1)
    assert len(queue.works) == probes
    settle(queue.works, scores=np.zeros(probes))
    await heard(bird)
    bird.send(2)
    assert [work.asked.ids for work in queue.works[probes:]] == [bird._ids[2]]


@pytest.fixture
def canary(member, metrics, clock):
    queue = Queue()
    computed_at = {}
    canary = Canary([by_hand(member, queue)], "float32", computed_at, metrics, PERIOD, clock)
    canary.queue, canary.computed_at = queue, computed_at
    return canary


@pytest.fixture
def health(engine, canary, metrics):
    return Health(engine.registry, canary, metrics)


async def test_silence_makes_a_replica_unready(canary, health, metrics, clock):
    value = metrics.registry.get_sample_value
    clock.now += PATIENCE * PERIOD - 1
    assert health.unready() is None
    assert value("plaudit_ready") == value("plaudit_member_up", {"model": "m0"}) == 1
    clock.now += 2
    assert "m0" in health.unready()
    assert value("plaudit_ready") == value("plaudit_member_up", {"model": "m0"}) == 0


async def test_a_chat_template_that_does_not_end_makes_it_unready_then_hopeless(health):
    health.tokenizing_seconds = lambda: 100.0
    assert health.unready() is not None
    assert health.hopeless(hang_seconds=300.0) is None
    assert health.hopeless(hang_seconds=99.0) == "the tokenizer has been at an item for 100 s"


async def test_a_canary_behind_traffic_that_moves_leaves_it_ready(canary, health, clock):
    canary._birds["m0"].send(0)
    for _ in range(20):
        clock.now += PERIOD
        canary.computed_at["m0"] = clock.now
        assert health.unready() is None
    clock.now += PATIENCE * PERIOD + 1
    assert health.unready() is not None


async def test_a_forward_that_fails_is_no_sign_of_life(canary, health, metrics, clock):
    bird = canary._birds["m0"]
    bird.send(0)
    settle(canary.queue.works, error=EngineFault("broken"))
    await heard(bird)
    value = metrics.registry.get_sample_value
    assert health.unready() is None  # one fault is no reason to leave
    assert value("plaudit_member_up", {"model": "m0"}) == 0
    clock.now += PATIENCE * PERIOD + 1
    assert health.unready() is not None


async def test_a_machine_that_is_slow_by_nature_is_not_unready(canary, health, clock):
    bird = canary._birds["m0"]
    bird.send(1)
    [work] = canary.queue.works
    work.since -= 200.0  # what stood before it took so long
    settle([work], scores=np.zeros(1))
    await heard(bird)
    clock.now += SLACK * 200 - 1
    assert health.unready() is None
    clock.now += 10
    assert health.unready() is not None


async def test_a_model_without_probes_is_watched_but_has_no_drift(tmp_path, tokenizer, save_plain):
    metrics = Metrics()
    plain = save_plain(tmp_path / "plain", tokenizer, seed=5)
    read = Settings(models=[plain], dtype="float32", device="cpu", _cli_parse_args=False)
    engine = TorchEngine(read, metrics)
    registry = await Registry.open(engine, sources(read), metrics)
    try:
        bird = Bird(registry.members["plain"], 1e-3, metrics, Clock())
        bird.send(0)
        await heard(bird)
    finally:
        await engine.close()
    value = metrics.registry.get_sample_value
    assert value("plaudit_batch_invariance_max_abs_diff", {"model": "plain"}) == 0
    assert value("plaudit_canary_age_seconds", {"model": "plain"}) == 0
    assert value("plaudit_canary_score_drift", {"model": "plain"}) is None


async def test_a_running_server_sends_them_on_its_schedule(serve, tiny_checkpoint, metrics):
    value = metrics.registry.get_sample_value
    async with serve(models=[tiny_checkpoint], canary_seconds=0.01) as client:
        async with asyncio.timeout(60):
            while value("plaudit_canary_score_drift", {"model": "m0"}) is None:
                await asyncio.sleep(0.01)
            while not value("plaudit_event_loop_lag_seconds_count"):
                await asyncio.sleep(0.01)
        # Nothing but canaries came, and they are no one's items and in no cache.
        assert value("plaudit_score_bucket", {"model": "m0", "le": "+Inf"}) == 0
        assert value("plaudit_cache_lookups_total", {"tier": "l1", "result": "miss"}) == 0
        assert "plaudit_client_wait_seconds_total{" not in (await client.get("/metrics")).text
