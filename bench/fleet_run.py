"""Runs simulated traffic through a simulated fleet, and says what callers saw."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import simpy
from fleet_replica import Costs, Limits, Process, Replica, Request, Scores, Tally
from fleet_routes import Route
from fleet_scaling import Autoscaler, Scaling


@dataclass(frozen=True)
class Seen:
    """What callers saw, and what it took. Seconds; parts of one; replica-seconds are those paid."""

    p50: float
    p99: float
    steps: list[float]
    utilisation: float
    computed: float
    cached: float
    replica_seconds: float
    most_replicas: int
    tallies: list[Tally]

    @property
    def step(self) -> float:
        """What a synchronous trainer waits: until the last answer of a burst, in the median."""
        return float(np.median(self.steps))


class Fleet:
    """Replicas that come and go. ``shared`` scores are a Redis that all of them ask."""

    def __init__(self, costs: Costs, limits: Limits, route: Route, shared: bool = False):
        self.env = simpy.Environment()
        self._costs, self._limits, self._route = costs, limits, route
        self._redis = [Scores(10**9)] if shared else []
        self.replicas: list[Replica] = []
        self._gone: list[Replica] = []
        self._loading = 0
        self.replica_seconds = 0.0
        self.most = 0

    def start(self, count: int = 1) -> None:
        for _ in range(count):
            own = Scores(self._limits.kept_scores)
            scores = [own, *self._redis]
            self.replicas.append(Replica(self.env, self._costs, self._limits, scores))
        self.most = max(self.most, len(self.replicas))

    def send(self, requests: Iterable[Request]) -> Process:
        """Open loop: what is sent does not wait for what was answered."""
        for request in requests:
            if request.sent > self.env.now:
                yield self.env.timeout(request.sent - self.env.now)
            self._route(request, self.replicas).submit(request)

    def scale(self, scaling: Scaling) -> Process:
        autoscaler = Autoscaler(scaling)
        while True:
            yield self.env.timeout(scaling.look_seconds)
            self.replica_seconds += scaling.look_seconds * (
                len(self.replicas) + self._loading + sum(not one.idle for one in self._gone)
            )
            have = len(self.replicas) + self._loading
            queued = sum(replica.tokens_in_house for replica in self.replicas)
            wanted = autoscaler.decide(self.env.now, have, queued)
            for _ in range(wanted - have):
                self.env.process(self._load(scaling.ready_seconds))
            for _ in range(have - wanted):
                self._gone.append(self.replicas.pop())  # it gets no more, and ends what it has

    def _load(self, seconds: float) -> Process:
        self._loading += 1
        yield self.env.timeout(seconds)
        self._loading -= 1
        self.start()

    def tallies(self) -> list[Tally]:
        return [replica.tally for replica in (*self.replicas, *self._gone)]


def run(
    fleet: Fleet, replicas: int, bursts: Sequence[list[Request]], scaling: Scaling | None = None
) -> Seen:
    """Send the bursts and wait for all answers. The first burst, on cold caches, counts too."""
    requests = [request for burst in bursts for request in burst]
    sizes = [len(request.sequences) for request in requests]
    fleet.start(replicas)
    if scaling is not None:
        fleet.env.process(fleet.scale(scaling))
    fleet.env.run(fleet.env.process(fleet.send(requests)))
    while any(request.answered is None for request in requests):
        fleet.env.step()
    return summary(fleet, bursts, sizes, scaled=scaling is not None)


def summary(fleet: Fleet, bursts: Sequence[list[Request]], sizes: list[int], scaled: bool) -> Seen:
    waits = [wait(request) for burst in bursts for request in burst]
    each = np.repeat(waits, sizes)
    tallies = fleet.tallies()
    paid = fleet.replica_seconds if scaled else fleet.env.now * len(fleet.replicas)
    return Seen(
        p50=float(np.quantile(each, 0.5)),
        p99=float(np.quantile(each, 0.99)),
        steps=[max(map(ended, burst)) - min(one.sent for one in burst) for burst in bursts],
        utilisation=sum(one.busy_seconds for one in tallies) / paid,
        computed=sum(one.computed_tokens for one in tallies)
        / sum(one.asked_tokens for one in tallies),
        cached=sum(one.cached for one in tallies) / sum(one.asked for one in tallies),
        replica_seconds=paid,
        most_replicas=fleet.most,
        tallies=tallies,
    )


def ended(request: Request) -> float:
    assert request.answered is not None
    return request.answered


def wait(request: Request) -> float:
    return ended(request) - request.sent
