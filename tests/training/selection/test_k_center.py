"""Greedy k-center: its guarantee by brute force, its order by hand, real pairs beside chance."""

import tracemalloc
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.sources import Source, load
from training.experiments.kcenter import embed
from training.selection.embedding import TEXTS
from training.selection.k_center import cover_radius, k_center

DATA = Path(__file__).parents[3].parent / "shared" / "data"

coordinates = st.integers(-8, 8)
clouds = st.lists(st.tuples(coordinates, coordinates), min_size=2, max_size=8).map(
    lambda points: np.array(points, np.float64)
)


def radius_of(points: np.ndarray, chosen: list[int]) -> float:
    return max(min(float(np.linalg.norm(p - points[c])) for c in chosen) for p in points)


def smallest_radius(points: np.ndarray, count: int) -> float:
    return min(radius_of(points, [*some]) for some in combinations(range(len(points)), count))


@given(clouds, st.data())
@settings(max_examples=150, deadline=None)
def test_the_radius_is_at_most_twice_the_smallest(points, data):
    count = data.draw(st.integers(1, len(points)))
    centres = data.draw(st.integers(1, count))
    cover = k_center(points, count, seed=data.draw(st.integers(0, 3)), centres=centres)
    assert len(set(cover.chosen.tolist())) == count
    assert cover.radius == pytest.approx(radius_of(points, cover.chosen.tolist()), abs=1e-6)
    assert cover_radius(points, cover.chosen) == pytest.approx(cover.radius, abs=1e-6)
    free = count - centres + 1  # with one centre, all of them
    assert cover.radius <= 2 * smallest_radius(points, free) + 1e-9


def test_the_order_by_hand():
    # The mean is 3.75; then 10 is 6 away, 0 is 4 away, 1 and 7 are 1 and 3 away.
    points = np.array([[0.0], [1.0], [10.0], [4.0]])
    cover = k_center(points, 3, seed=0, centres=1)
    assert points[cover.chosen, 0].tolist() == [4, 10, 0]
    assert cover.radius == 1


def test_centres_come_first_and_from_each_cluster():
    generator = np.random.default_rng(0)
    middles = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    points = (middles[:, None] + generator.normal(0, 0.1, (3, 20, 2))).reshape(-1, 2)
    first = k_center(points, 5, seed=1, centres=3).chosen[:3]
    assert sorted(first // 20) == [0, 1, 2]
    assert np.abs(points[first] - middles[first // 20]).max() < 0.1  # a middle, not an edge


def test_copies_are_chosen_last_and_once():
    points = np.array([[0.0, 1.0]] * 5 + [[3.0, 4.0]] * 5)
    cover = k_center(points, 4, seed=0)
    assert len(set(cover.chosen.tolist())) == 4
    assert cover.radius == 0
    alone = k_center(points, 2, seed=0, centres=1)
    assert {int(place) // 5 for place in alone.chosen} == {0, 1}
    everything = k_center(points, 10, seed=0, centres=1)
    assert sorted(everything.chosen.tolist()) == [*range(10)]


def test_the_seed_decides_between_copies():
    points = np.array([[0.0], [5.0]] * 20)
    first, again, other = (k_center(points, 2, seed).chosen.tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("count", [0, 4])
def test_more_or_fewer_than_there_are_is_refused(count):
    with pytest.raises(ValueError, match=f"{count} of 3 points cannot be chosen"):
        k_center(np.eye(3), count, seed=0)


def test_memory_grows_with_the_points_not_with_their_pairs():
    points = np.random.default_rng(0).normal(size=(20_000, 16))
    tracemalloc.start()
    k_center(points, 20, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * points.nbytes < len(points) ** 2 / 4


@pytest.mark.parametrize("text", TEXTS)
def test_on_real_pairs_it_covers_more_than_chance(text):
    path = DATA / "hh_helpful.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no preference data at {DATA}")
    pairs = load(Source(name="helpful", path=path)).pairs
    points = embed([TEXTS[text](pair) for pair in pairs])
    for share in (0.01, 0.05, 0.1):
        count = round(share * len(pairs))
        chance = [
            cover_radius(
                points, np.random.default_rng(seed).choice(len(points), count, replace=False)
            )
            for seed in range(5)
        ]
        assert k_center(points, count, seed=0).radius < min(chance)
