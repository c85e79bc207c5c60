"""Scores that move are seen to move, by how far, and from how many scores on."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from plaudit import checkpoint
from plaudit.checkpoint import Stats
from service.agreement import Agreement
from service.drift import Reference, psi
from service.score_stream import ScoreStream
from service.windows import Window, pearson

LEVELS = np.arange(1, 20) / 20
MEAN, STD = 3.0, 2.0
HOUR = 3600.0


class Clock:
    def __init__(self):
        self.now = 1e6

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def stats(quantiles):
    return Stats("validation", "sha256:0", 4000, MEAN, STD, tuple(map(float, quantiles)))


@pytest.fixture
def stream(clock):
    return ScoreStream(stats(norm.ppf(LEVELS, MEAN, STD)), clock)


def feed(stream, scores, lengths=None):
    for i, score in enumerate(scores):
        stream.add(float(score), None if lengths is None else int(lengths[i]))


def drawn(count, shift=0.0, seed=0):
    """Scores of the reference's own distribution, its mean moved by ``shift`` of its std."""
    return np.random.default_rng(seed).normal(MEAN + shift * STD, STD, count)


@pytest.mark.parametrize(
    ("shift", "least", "most"), [(0.0, 0.0, 0.1), (0.1, 0.0, 0.1), (0.5, 0.1, 0.5), (1.0, 0.25, 2)]
)
@pytest.mark.parametrize("count", [1000, 5000])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_tenth_of_a_sigma_is_quiet_half_warns_and_one_pages(
    stream, shift, least, most, count, sign
):
    feed(stream, drawn(count, sign * shift))
    for window in ("15m", "24h"):
        assert least <= stream.psi(window) <= most


@pytest.mark.parametrize("count", [1000, 100_000])
@pytest.mark.parametrize("scores", [[0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 1.0, 2.0], [3.0]])
def test_a_model_of_few_distinct_scores_has_not_moved_from_itself(scores, count):
    reference = Reference.of(stats(np.quantile(np.resize(scores, 4000), LEVELS)))
    seen = np.searchsorted(reference.edges, np.resize(scores, count))
    counts = np.bincount(seen, minlength=len(reference.shares)).astype(float)
    assert reference.psi(counts) == pytest.approx(0, abs=0.01)
    assert counts.sum() == count


def test_a_model_of_two_scores_that_gives_one_of_them_more_often_has_moved():
    reference = Reference.of(stats(np.quantile(np.resize([0.0, 1.0], 4000), LEVELS)))
    seen = np.searchsorted(reference.edges, np.resize([0.0, 1.0, 1.0, 1.0], 4000))
    counts = np.bincount(seen, minlength=len(reference.shares)).astype(float)
    assert reference.psi(counts) > 0.25


def test_the_index_is_what_its_definition_says():
    shares, counts = (0.25, 0.25, 0.5), np.array([100_000, 300_000, 600_000])
    p = counts / counts.sum()
    by_hand = sum((a - b) * math.log(a / b) for a, b in zip(p, shares, strict=True))
    assert psi(counts, shares) == pytest.approx(by_hand, rel=1e-4)
    assert psi(1e6 * np.array(shares), shares) == pytest.approx(0, abs=1e-9)
    assert math.isfinite(psi([1000, 0, 0], shares))


def test_a_spread_that_shrinks_is_drift_too(stream):
    feed(stream, MEAN + 0.2 * (drawn(3000) - MEAN))
    assert stream.psi("15m") > 0.25


def test_few_scores_say_nothing(stream):
    feed(stream, drawn(999, 5.0))
    assert stream.psi("15m") is None
    feed(stream, [MEAN])
    assert stream.psi("15m") > 0.25


def test_without_a_reference_there_is_no_drift(clock):
    plain = ScoreStream(None, clock)
    feed(plain, drawn(2000))
    assert plain.psi("15m") is None
    assert plain.saturation() is None
    assert plain.mean() == pytest.approx(MEAN, abs=0.2)


def test_quantiles_that_are_equal_share_a_bin():
    quantiles = [0.0] * 10 + [float(i) for i in range(1, 10)]
    reference = Reference.of(stats(quantiles))
    assert reference.edges == tuple(float(i) for i in range(10))
    assert reference.shares == pytest.approx((0.5, *[0.05] * 10))
    scores = [0.0] * 1000 + [i + 0.5 for i in range(10) for _ in range(100)]
    stream = ScoreStream(stats(quantiles), lambda: 0.0)
    feed(stream, scores)
    assert stream.psi("24h") < 0.01


def test_the_short_window_forgets_what_the_long_one_remembers(stream, clock):
    feed(stream, drawn(2000, 3.0))
    clock.now += HOUR
    feed(stream, drawn(2000, 0.0))
    assert stream.psi("15m") < 0.1 < 0.25 < stream.psi("24h")
    clock.now += 23.5 * HOUR
    assert stream.psi("15m") is None
    assert stream.psi("24h") < 0.1


def test_scores_that_nobody_scraped_count_when_they_came(stream, clock):
    feed(stream, drawn(1500, 3.0))
    for _ in range(30):
        clock.now += HOUR / 15
        feed(stream, drawn(1))
    assert stream.psi("15m") is None
    assert stream.mean() == pytest.approx(MEAN, abs=3)


def test_mean_std_and_saturation_are_those_of_the_scores(stream):
    scores = drawn(4000, 0.7)
    feed(stream, scores)
    assert stream.mean() == pytest.approx(scores.mean())
    assert stream.std() == pytest.approx(scores.std(ddof=1))
    low, high = norm.ppf([0.05, 0.95], MEAN, STD)
    assert stream.saturation() == pytest.approx(np.mean((scores <= low) | (scores > high)))


def test_length_correlation_is_pearsons_over_known_lengths(stream):
    lengths = np.random.default_rng(1).integers(1, 4000, 3000)
    scores = drawn(3000) + lengths / 1000
    feed(stream, drawn(500, 2.0, seed=2))
    feed(stream, scores, lengths)
    assert stream.length_correlation() == pytest.approx(np.corrcoef(scores, lengths)[0, 1])


@pytest.mark.parametrize("lengths", [[7] * 200, [7] * 99])
def test_lengths_that_do_not_vary_or_are_few_have_no_correlation(stream, lengths):
    feed(stream, drawn(len(lengths)), lengths)
    assert stream.length_correlation() is None


def test_memory_does_not_grow_with_scores(stream, clock):
    parts = [window._parts.nbytes for window in stream._windows.values()]
    for _ in range(50):
        feed(stream, drawn(100))
        clock.now += HOUR
    assert [window._parts.nbytes for window in stream._windows.values()] == parts
    assert sum(parts) < 50_000
    assert sum(stream.counts()) == 5000


def test_a_window_holds_what_is_not_older_and_nothing_twice():
    window = Window(10.0, 5, (1,))
    for second in range(100):
        window.add(np.ones(1), float(second))
        assert window.total(second)[0] == min(second + 1, 9 + second % 2)
    assert window.total(1e9)[0] == 0


def test_pearson_of_a_gram_matrix_is_numpys():
    rows = np.random.default_rng(0).normal(size=(500, 4)) @ np.triu(np.ones((4, 4))) + 30
    whole = np.column_stack([np.ones(len(rows)), rows])
    assert pearson(whole.T @ whole) == pytest.approx(np.corrcoef(rows.T))


def test_members_that_agree_and_one_that_does_not(clock):
    agreement = Agreement(["a", "b", "c"], clock)
    scores = drawn(600)
    other = drawn(600, seed=9)
    rows = np.column_stack([scores, 2 * scores + 1, other])
    for part in np.split(rows, 6):
        agreement.add(part, [0.25] * 90 + [4.0] * 10)
    found = {(first, second): value for first, second, value in agreement.correlations()}
    assert found["a", "b"] == pytest.approx(1)
    assert abs(found["a", "c"]) < 0.2
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert agreement.disagreement() == pytest.approx(0.1)
    clock.now += 1000
    assert list(agreement.correlations()) == []
    assert agreement.disagreement() is None


async def test_the_service_feeds_drift_and_agreement(
    serve, ensemble_file, members, make_complete, tmp_path, metrics
):
    """Through the real application: reward.json's quantiles are the edges, and scores beyond them
    move the index."""
    texts = [f"{'why ' * (i % 9)}{i}" for i in range(1000)]
    items = [{"prompt": "q", "response": text} for text in texts]
    async with serve(models=[ensemble_file]) as client:
        _, own = checkpoint.read(members[0])
        metrics.rewards.watch("m0", own, stats(norm.ppf(LEVELS, 100.0, 1.0)))
        answer = await client.post("/ensemble_score", json={"items": items})
        text = (await client.get("/metrics")).text
    value = metrics.registry.get_sample_value
    rows = np.array(answer.json()["member_scores"])
    assert value("plaudit_score_psi", {"model": "m0", "window": "15m"}) > 0.25
    assert value("plaudit_score_psi", {"model": "m1", "window": "15m"}) is None
    assert value("plaudit_score_saturation_ratio", {"model": "m0"}) == 1
    assert value("plaudit_score_mean", {"model": "m0"}) == pytest.approx(
        rows[:, 0].mean(), abs=1e-5
    )
    assert value("plaudit_score_std", {"model": "m1"}) == pytest.approx(rows[:, 1].std(ddof=1))
    lengths = [len(text) for text in texts]
    assert value("plaudit_response_length_score_corr", {"model": "m2"}) == pytest.approx(
        np.corrcoef(rows[:, 2], lengths)[0, 1], abs=1e-5
    )
    pair = {"ensemble": "ens", "first": "m0", "second": "m2"}
    assert value("plaudit_ensemble_pairwise_corr", pair) == pytest.approx(
        np.corrcoef(rows[:, 0], rows[:, 2])[0, 1], abs=1e-5
    )
    far = np.sqrt(np.array(answer.json()["variance"])) > 1
    assert value("plaudit_ensemble_disagree_ratio", {"ensemble": "ens"}) == far.mean()
    assert 'plaudit_score_reference_mean{model="m0"} 3.0' in text


async def test_edges_are_the_quantiles_of_the_checkpoint(
    serve, tiny_checkpoint, copy_with, tmp_path, metrics
):
    told = copy_with(tiny_checkpoint, tmp_path / "told", stats=stats(LEVELS))
    async with serve(models=[told, tiny_checkpoint]) as client:
        text = (await client.get("/metrics")).text
    assert 'plaudit_score_bucket{le="0.05",model="told"} 0.0' in text
    assert 'plaudit_score_bucket{le="0.5",model="m0"} 0.0' in text
    assert 'plaudit_score_bucket{le="0.05",model="m0"}' not in text
