"""What the generator measures, in a time of its own: nothing here waits or reads a real clock."""

import asyncio
import math
import statistics
from itertools import pairwise

import pytest
import virtual_time

from plaudit.client.retry import Clock
from service.bench import knee
from service.bench.arrivals import offsets
from service.bench.open_loop import Answer, drive
from service.bench.summary import RateResult, quantile, summarise

SERVICE, STALL = 0.010, 1.0


class OneWorker:
    """A server with a single worker: 10 ms for a request, and once a stall of a second."""

    def __init__(self, stall_at: float):
        self._stall_at, self._worker = stall_at, asyncio.Lock()

    async def __call__(self, number: int) -> Answer:
        async with self._worker:
            if asyncio.get_running_loop().time() >= self._stall_at:
                self._stall_at = math.inf
                await asyncio.sleep(STALL)
            await asyncio.sleep(SERVICE)
        return Answer("ok", items=1)


def clock_of_the_loop() -> Clock:
    return Clock(now=asyncio.get_running_loop().time, sleep=asyncio.sleep)


async def open_loop(rate, seconds, server, most_in_flight=1000):
    times = offsets("constant", rate, seconds, 0)
    return await drive(times, server(), most_in_flight, clock_of_the_loop())


async def closed_loop(requests, server):
    send, now = server(), asyncio.get_running_loop().time
    latencies = []
    for number in range(requests):
        began = now()
        await send(number)
        latencies.append(now() - began)
    return latencies


def test_a_stall_shows_in_the_p99_of_an_open_loop_and_a_closed_one_hides_it():
    samples = virtual_time.run(open_loop(50, 10, lambda: OneWorker(5.0)))
    open_p99 = quantile(sorted(one.latency for one in samples), 0.99)
    closed = virtual_time.run(closed_loop(500, lambda: OneWorker(2.5)))
    assert max(closed) == pytest.approx(STALL + SERVICE)
    assert quantile(sorted(closed), 0.99) == pytest.approx(SERVICE)
    # Of 500 requests, those of the stall's second wait for what is left of it: the five slowest are
    # the first five behind it. Each waits 20 ms less than the one before, and 10 ms more for it.
    assert open_p99 == pytest.approx(STALL + SERVICE - 5 * (1 / 50 - SERVICE))
    assert sum(one.latency > 0.1 for one in samples) > 80


def test_latency_counts_from_the_intended_time_even_where_connections_are_short():
    samples = virtual_time.run(open_loop(50, 4, lambda: OneWorker(1.0), most_in_flight=1))
    by_sending = quantile(sorted(one.done - one.sent for one in samples), 0.99)
    assert by_sending == pytest.approx(SERVICE)  # with one connection it is a closed loop
    assert quantile(sorted(one.latency for one in samples), 0.99) > 0.9
    assert max(one.lag for one in samples) == pytest.approx(0)


def test_requests_are_sent_when_intended_whatever_the_server_does():
    async def never_in_time(number):
        await asyncio.sleep(100)
        return Answer("ok")

    samples = virtual_time.run(open_loop(10, 5, lambda: never_in_time))
    assert [one.sent for one in samples] == pytest.approx([n / 10 for n in range(50)])


def test_a_generator_that_lags_makes_its_result_invalid():
    async def lagging():
        loop = asyncio.get_running_loop()

        async def late(seconds: float) -> None:
            await asyncio.sleep(seconds + 0.5)

        async def send(number):
            await asyncio.sleep(SERVICE)
            return Answer("ok", items=1)

        return await drive(offsets("constant", 1, 20, 0), send, 9, Clock(loop.time, sleep=late))

    result = summarise(
        virtual_time.run(lagging()),
        rate=1,
        seconds=20,
        slo_ms=1000,
        client_cpu_share=0.1,
        all_new=True,
    )
    assert result.lag_p99_ms == pytest.approx(500)
    assert "the generator sent 500 ms late" in result.invalid[0]
    assert result.latency_ms.p50 == pytest.approx(510)  # never hidden


def test_a_generator_without_a_core_left_makes_its_result_invalid():
    samples = virtual_time.run(open_loop(10, 2, lambda: OneWorker(math.inf)))
    figures = {"rate": 10, "seconds": 2, "slo_ms": 100, "all_new": True}
    assert not summarise(samples, **figures, client_cpu_share=0.5).invalid
    assert "core" in summarise(samples, **figures, client_cpu_share=0.97).invalid[0]


@pytest.mark.parametrize(("all_new", "said"), [(True, ["25.0% of items came"]), (False, [])])
def test_what_the_cache_knew_is_no_figure_of_the_model(all_new, said):
    async def one_of_four_is_known(number):
        return Answer("ok", items=4, cached=1)

    samples = virtual_time.run(open_loop(10, 2, lambda: one_of_four_is_known))
    found = summarise(samples, rate=10, seconds=2, slo_ms=100, client_cpu_share=0, all_new=all_new)
    assert found.cached_share == 0.25
    assert [one[:19] for one in found.invalid] == said


def test_poisson_gaps_have_the_mean_and_the_spread_of_an_exponential_law():
    times = offsets("poisson", 200.0, 100.0, seed=1)
    gaps = [b - a for a, b in pairwise(times)]
    assert len(times) == pytest.approx(20_000, abs=4 * 20_000**0.5)
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)
    over_mean = sum(gap > 1 / 200 for gap in gaps) / len(gaps)
    assert over_mean == pytest.approx(math.exp(-1), abs=0.02)
    assert times != offsets("poisson", 200.0, 100.0, seed=2)
    assert times == offsets("poisson", 200.0, 100.0, seed=1)


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [([1, 2, 3, 4], 0.5, 2), ([1, 2, 3, 4], 0.51, 3), ([7], 0.999, 7),
     (range(1, 101), 0.99, 99), (range(1, 1001), 0.999, 999)],
)  # fmt: skip
def test_a_quantile_is_the_nearest_rank(values, q, expected):
    assert quantile(list(values), q) == expected


def result_of(rate: float, p99_ms: float, errors: float = 0.0, invalid=()) -> RateResult:
    samples = virtual_time.run(
        open_loop(100, 1, lambda: lambda number: answered(number >= 100 * errors, p99_ms))
    )
    found = summarise(samples, rate=rate, seconds=1, slo_ms=100, client_cpu_share=0, all_new=True)
    return found.__class__(
        **{n: getattr(found, n) for n in found.__struct_fields__} | {"invalid": list(invalid)}
    )


async def answered(well, milliseconds):
    await asyncio.sleep(milliseconds / 1000)
    return Answer("ok", items=1) if well else Answer("overloaded", 503)


@pytest.mark.parametrize("first", [1.0, 30.0, 400.0])
async def test_the_knee_is_found_from_below_and_from_above(first):
    asked = []

    async def server_that_holds_77(rate):
        asked.append(rate)
        return await asyncio.to_thread(result_of, rate, 20 if rate <= 77 else 500)

    found = await knee.find(server_that_holds_77, first, slo_ms=100, most_errors=0)
    assert found.holds <= 77 < found.breaks
    assert found.breaks / found.holds <= knee.CLOSE
    assert len(asked) == len(set(asked)) <= 12


async def test_the_search_ends_where_the_generator_does():
    async def weak_generator(rate):
        late = ["the generator sent late"] if rate > 4 else []
        return await asyncio.to_thread(result_of, rate, 20, 0.0, late)

    found = await knee.find(weak_generator, 1.0, slo_ms=100, most_errors=0)
    assert (found.holds, found.breaks) == (4.0, None)
    assert "the generator sent late" in found.why


def test_errors_break_a_rate_though_the_rest_is_fast():
    results = [result_of(10, 20), result_of(20, 20, errors=0.05), result_of(40, 20)]
    found = knee.of_rates(results, slo_ms=100, most_errors=0.01)
    assert (found.holds, found.breaks) == (10, 20)
    assert "5.0% of requests failed" in found.why
    assert results[1].statuses == {"200": 95, "503": 5}
    assert results[1].outcomes == {"ok": 95, "overloaded": 5}
    assert results[1].within_slo == 0.95
