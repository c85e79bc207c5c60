"""Probes of the checkpoints, scored again and again through the real engine.

They go to the queue as any work does, at the lowest priority, and past the cache. The first time
all probes of a member go together, then one at a time in turn: that costs next to nothing, and the
same probe in other company shows what company does to a score.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from plaudit import probes
from service.fair_queue import Caller
from service.member import Member
from service.metrics import Metrics
from service.work import Work

# A member is stale when nothing of it, canary or traffic, was computed for this many periods …
PATIENCE = 4
# … or for this many times as long as its slowest canary took, waiting included, where that is
# longer: on a slow machine one forward of others may take a minute.
SLACK = 3


class Canary:
    """Every ``period`` seconds each of ``members`` scores probes. ``computed_at`` has the time, by
    ``clock``, at which traffic last got a score of a member: a canary that waits behind traffic
    that moves is no sign of anything."""

    def __init__(
        self,
        members: Sequence[Member],
        dtype: str,
        computed_at: Mapping[str, float],
        metrics: Metrics,
        period: float,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._computed_at, self._period, self._clock = computed_at, period, clock
        self._tolerance, self._metrics = probes.TOLERANCE[dtype], metrics
        self._birds: dict[str, Bird] = {}
        self._turn, self._first_turns = 0, dict[str, int]()
        for member in members:
            self.follow(member)

    def follow(self, member: Member) -> None:
        """From now on ``member`` is the one of its name."""
        before = self._birds.get(member.name)
        if before is not None:
            before.leave()
        self._birds[member.name] = Bird(member, self._tolerance, self._metrics, self._clock)
        self._first_turns[member.name] = self._turn

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._period)
            for name, bird in self._birds.items():
                bird.send(self._turn - self._first_turns[name])
            self._turn += 1

    def sings(self, name: str) -> bool:
        """Whether the member computes, as far as canaries can tell."""
        return name not in self.stale() and not self._birds[name].failed

    def stale(self) -> list[str]:
        """Members of which nothing was computed for too long."""
        now = self._clock()
        return [name for name, bird in self._birds.items() if now > self._patience_ends(name, bird)]

    def _patience_ends(self, name: str, bird: "Bird") -> float:
        newest = max(bird.heard_at, self._computed_at.get(name, 0.0))
        return newest + max(PATIENCE * self._period, SLACK * bird.slowest)


class Bird:
    """The probes of one member, or one made-up token where it has none."""

    def __init__(
        self, member: Member, tolerance: float, metrics: Metrics, clock: Callable[[], float]
    ):
        self._member, self._clock = member, clock
        self._promised = [probe.score for probe in member.manifest.probes]
        self._ids = probes.stored_ids(member) or [[0]]
        self._waiting: set[asyncio.Future[float]] = set()
        self._newest: dict[int, float] = {}
        self._range: dict[int, tuple[float, float]] = {}
        self.failed, self.slowest, self.heard_at = False, 0.0, clock()
        self._left = False
        self._rewards = rewards = metrics.rewards
        rewards.canary_age.labels(member.name).set_function(lambda: clock() - self.heard_at)
        if self._promised:
            rewards.canary_tolerance.labels(member.name).set(tolerance)

    def leave(self) -> None:
        """Say nothing more of the member; what was said of it goes."""
        self._left = True
        gauges = self._rewards
        for gauge in (gauges.canary_drift, gauges.canary_tolerance, gauges.invariance):
            gauge.remove(self._member.name)

    def send(self, turn: int) -> None:
        """All probes at first, then one; none while the last ones are on their way."""
        if self._waiting:
            return
        places = range(len(self._ids)) if turn == 0 else [turn % len(self._ids)]
        caller = Caller("offline")
        for place in places:
            work = self._member.submit(self._ids[place], caller)
            self._waiting.add(work.done)
            work.done.add_done_callback(partial(self._hear, place, work))

    def _hear(self, place: int, work: Work, _: asyncio.Future[float]) -> None:
        self._waiting.discard(work.done)
        if self._left or work.done.cancelled():
            return
        self.failed = work.done.exception() is not None
        if self.failed:
            return
        self.heard_at = self._clock()
        self.slowest = max(self.slowest, work.ended_at - work.since)
        self._note(place, work.done.result())

    def _note(self, place: int, score: float) -> None:
        self._newest[place] = score
        name = self._member.name
        if math.isfinite(score):  # a NaN would stay in the range for ever
            low, high = self._range.get(place, (score, score))
            self._range[place] = min(low, score), max(high, score)
            widest = max(high - low for low, high in self._range.values())
            self._rewards.invariance.labels(name).set(widest)
        if self._promised:
            far = [abs(score - self._promised[place]) for place, score in self._newest.items()]
            self._rewards.canary_drift.labels(name).set(
                math.nan if any(map(math.isnan, far)) else max(far)
            )
