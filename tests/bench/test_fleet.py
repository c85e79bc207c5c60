"""The simulated fleet agrees with queueing theory, and shows what docs/scaling.md claims."""

import itertools
import json
import math
import random
import statistics
from pathlib import Path

import pytest
import yaml
from fleet_replica import Costs, Limits, Request
from fleet_routes import least_loaded, routes
from fleet_run import Fleet, Seen, run, wait
from fleet_scaling import Autoscaler, Scaling
from fleet_traffic import Bursts, poisson

ROOT = Path(__file__).parents[2]
COSTS = Costs.read(ROOT / "bench/fleet_costs.json")
# One sequence a forward, taken as it comes: a queue with one server, as in the textbooks.
ONE_BY_ONE = Limits(batch_tokens=1, queued_tokens=10**12, linger_seconds=0.0)


def mean_wait(requests: list[Request], token_seconds: float) -> float:
    """Seconds in the queue, without the forward itself."""
    tokens = [request.tokens for request in requests]
    run(Fleet(Costs(0.0, token_seconds, 0.0), ONE_BY_ONE, least_loaded), 1, [requests])
    served = zip(requests, tokens, strict=True)
    return statistics.fmean(wait(one) - token_seconds * size for one, size in served)


@pytest.mark.parametrize("load", [0.4, 0.6])
def test_equal_sequences_wait_as_in_a_queue_with_one_constant_server(load: float) -> None:
    requests = poisson(load, 8_000, itertools.repeat(10), seed=1)

    # M/D/1 with a service of 1 second, Pollaczek and Khinchine: load / (2 (1 - load)).
    expected = load / (2 * (1 - load))
    assert mean_wait(requests, 0.1) == pytest.approx(expected, rel=0.05)


def test_sequences_of_random_length_wait_as_in_a_queue_with_one_exponential_server() -> None:
    load, spread = 0.5, random.Random(2)
    lengths = (math.ceil(spread.expovariate(1 / 20)) for _ in itertools.count())
    requests = poisson(load, 8_000, lengths, seed=3, together=True)

    # M/M/1 with a mean service of 1 second: load / (1 - load).
    assert mean_wait(requests, 1 / 20.5) == pytest.approx(load / (1 - load), rel=0.07)


def test_a_burst_on_one_replica_takes_the_sum_of_its_forwards() -> None:
    bursts = [*Bursts(prompts=40, bursts=1).requests()]
    seen = run(Fleet(COSTS, Limits(linger_seconds=0.0), least_loaded), 1, bursts)

    assert seen.steps[0] == pytest.approx(seen.tallies[0].busy_seconds)


SPLIT = Bursts(prompts=128, a_request=1, bursts=2)
WHOLE = Bursts(prompts=128, a_request=8, bursts=2)


def through(name: str, traffic: Bursts, replicas: int = 8, shared: bool = False) -> Seen:
    fleet = Fleet(COSTS, Limits(), routes()[name], shared)
    return run(fleet, replicas, [*traffic.requests()])


def test_by_prompt_computes_far_fewer_tokens_than_at_random_when_groups_are_split() -> None:
    assert through("by prompt", SPLIT).computed < 0.75 * through("at random", SPLIT).computed


def test_by_prompt_ends_a_step_of_split_groups_sooner_than_any_route_that_parts_them() -> None:
    apart = [through(name, SPLIT).step for name in ("at random", "least loaded")]

    assert through("by prompt", SPLIT).step < min(apart)


def test_whole_groups_are_served_best_by_the_least_loaded_replica() -> None:
    found = {name: through(name, WHOLE).step for name in routes()}

    assert min(found, key=found.__getitem__) == "least loaded"


def test_what_is_asked_again_is_found_by_prompt_or_in_one_redis_but_not_at_random() -> None:
    again = Bursts(prompts=128, repeated=0.5, bursts=3)
    apart, by_prompt = through("at random", again), through("by prompt", again)
    redis = through("at random", again, shared=True)

    assert by_prompt.cached > 2 * apart.cached
    assert redis.cached == pytest.approx(by_prompt.cached)


def test_replicas_shorten_a_step_less_and_less() -> None:
    found = [through("least loaded", WHOLE, replicas).step for replicas in (1, 4, 16, 64)]

    assert found == sorted(found, reverse=True)
    assert found[0] / found[1] > 3
    assert found[2] / found[3] < 4


def test_a_fleet_that_scales_comes_too_late_for_its_first_burst_and_in_time_for_later_ones() -> (
    None
):
    traffic = Bursts(prompts=256, bursts=6, every_seconds=150.0)
    fleet = Fleet(COSTS, Limits(), least_loaded)
    seen = run(fleet, 2, [*traffic.requests()], Scaling(least=2, most=8, up=4))

    assert seen.steps[-1] < 0.6 * seen.steps[0]
    assert seen.most_replicas > 2


def test_a_scaler_that_forgets_between_bursts_pays_less_and_is_late_every_time() -> None:
    traffic = Bursts(prompts=256, bursts=5, every_seconds=600.0)

    def scaled(stable_seconds: float) -> Seen:
        scaling = Scaling(up=6, stable_seconds=stable_seconds, down=6, down_every=60.0)
        return run(Fleet(COSTS, Limits(), least_loaded), 2, [*traffic.requests()], scaling)

    short, long = scaled(60.0), scaled(900.0)
    assert short.replica_seconds < long.replica_seconds
    assert short.steps[-1] > long.steps[-1]


def test_the_autoscaler_follows_the_rule_of_kubernetes() -> None:
    scaling = Scaling(most=100, target_tokens=100.0, up=100, average_seconds=1.0)

    assert Autoscaler(scaling).decide(0.0, 4, 4 * 150.0) == 6  # ceil(4 * 1.5)
    assert Autoscaler(scaling).decide(0.0, 4, 4 * 109.0) == 4  # within a tenth


def test_what_is_simulated_by_default_is_the_autoscaler_that_is_shipped() -> None:
    [path] = (ROOT / "k8s").rglob("hpa.yaml")
    spec = yaml.safe_load(path.read_text())["spec"]
    up, down = spec["behavior"]["scaleUp"], spec["behavior"]["scaleDown"]
    shipped = Scaling(
        least=spec["minReplicas"],
        most=spec["maxReplicas"],
        target_tokens=float(spec["metrics"][0]["pods"]["target"]["averageValue"]),
        up=up["policies"][0]["value"],
        up_every=up["policies"][0]["periodSeconds"],
        down=down["policies"][0]["value"],
        down_every=down["policies"][0]["periodSeconds"],
        stable_seconds=down["stabilizationWindowSeconds"],
    )

    assert shipped == Scaling()


def test_growth_is_bounded_by_the_policy_and_shrinking_waits_for_its_window() -> None:
    scaler = Autoscaler(Scaling(target_tokens=100.0, average_seconds=1.0))

    assert scaler.decide(0.0, 2, 5000.0) == 4
    assert scaler.decide(15.0, 4, 5000.0) == 4  # two within 60 seconds
    assert scaler.decide(75.0, 4, 0.0) == 6  # eight were wanted within 600 seconds
    assert scaler.decide(700.0, 6, 0.0) == 5  # and then one at a time


def test_the_committed_costs_fit_what_was_measured() -> None:
    found = json.loads((ROOT / "bench/fleet_costs.json").read_text())
    off = [
        abs(COSTS.of(point["computed"], point["sequences"]) / point["seconds"] - 1)
        for point in found["points"]
    ]

    assert statistics.median(off) == pytest.approx(found["relative_error"]["median"], abs=1e-3)
    assert max(off) == pytest.approx(found["relative_error"]["largest"], abs=1e-3)
    assert statistics.median(off) < 0.1
