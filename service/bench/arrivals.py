"""When requests are meant to be sent: open loop, so whatever the server does."""

import random
from collections.abc import Iterator
from itertools import count, takewhile
from typing import Literal

Arrivals = Literal["poisson", "constant"]


def offsets(arrivals: Arrivals, rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds from the start, ascending and below ``seconds``, at ``rate`` requests a second.

    Poisson arrivals have independent exponential gaps, as many callers that know nothing of each
    other give; constant ones are evenly apart.
    """
    times = poisson(rate, seed) if arrivals == "poisson" else constant(rate)
    return list(takewhile(lambda offset: offset < seconds, times))


def constant(rate: float) -> Iterator[float]:
    return (number / rate for number in count())


def poisson(rate: float, seed: int) -> Iterator[float]:
    draw = random.Random(seed)
    now = 0.0
    while True:
        now += draw.expovariate(rate)
        yield now
