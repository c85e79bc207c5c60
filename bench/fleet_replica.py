"""One simulated replica: the service's queue, windows and batches, at measured costs.

The queue is the service's own (``service.fair_queue``), and so are the sizes of windows and turns
(``service.batcher``); the batcher is its loop with simpy's clock in place of asyncio's. Admission
is simpler than the service's: nothing is refused or overtakes. Time is in seconds.
"""

import json
from collections import OrderedDict
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import simpy
from fleet_plan import Prefixes, Sized, computed, plan

from service.batcher import LINGER_STEP, TURNS, WINDOW
from service.fair_queue import Caller, FairQueue

Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Costs:
    """Seconds of a forward, of each token that it computes, and of each sequence it scores."""

    fixed_seconds: float
    token_seconds: float
    sequence_seconds: float

    @classmethod
    def read(cls, path: Path) -> Self:
        """What ``bench/fleet_costs.py`` wrote."""
        found = json.loads(path.read_text())
        return cls(found["fixed_seconds"], found["token_seconds"], found["sequence_seconds"])

    def of(self, tokens: int, sequences: int) -> float:
        return self.fixed_seconds + self.token_seconds * tokens + self.sequence_seconds * sequences

    def faster(self, times: float) -> Self:
        """On a machine that does everything so many times as fast."""
        return replace(
            self,
            fixed_seconds=self.fixed_seconds / times,
            token_seconds=self.token_seconds / times,
            sequence_seconds=self.sequence_seconds / times,
        )


@dataclass(frozen=True)
class Limits:
    """Settings of the service, at its defaults. ``prefix_tokens`` is what 1024 MB hold of a 135M
    Llama in bf16 (docs/serving.md)."""

    batch_tokens: int = 8192
    queued_tokens: int = 1_000_000
    linger_seconds: float = 0.002
    prefix_tokens: int = 46_000
    kept_scores: int = 512_000


class Scores:
    """Keys of the scores asked for last, ``entries`` of them; of one replica, or of all."""

    def __init__(self, entries: int):
        self._entries = entries
        self._kept: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, response: int) -> bool:
        return response in self._kept

    def keep(self, responses: Iterable[int]) -> None:
        for response in responses:
            self._kept[response] = None
            self._kept.move_to_end(response)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)


@dataclass(eq=False)
class Request:
    """Sequences that one caller posts together, answered when all are scored."""

    sequences: list[Sized]
    sent: float
    left: int = 0
    answered: float | None = None
    caller: Caller = field(default_factory=Caller)

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.sequences)


@dataclass(eq=False, slots=True)
class Waiting:
    """A sequence in the queue."""

    sequence: Sized
    request: Request

    @property
    def caller(self) -> Caller:
        return self.request.caller

    @property
    def tokens(self) -> int:
        return self.sequence.tokens


@dataclass
class Tally:
    """What a replica did."""

    busy_seconds: float = 0.0
    asked_tokens: int = 0
    computed_tokens: int = 0
    asked: int = 0
    cached: int = 0
    batches: int = 0


class Replica:
    """Answers the requests it is given. ``scores`` may be shared with other replicas."""

    def __init__(
        self, env: simpy.Environment, costs: Costs, limits: Limits, scores: Iterable[Scores]
    ):
        self._env, self._costs, self._limits = env, costs, limits
        self._scores = [*scores]
        self._prefixes = Prefixes(limits.prefix_tokens)
        self._queue: FairQueue[Waiting] = FairQueue(max(1, limits.batch_tokens // TURNS))
        self._held: list[Request] = []
        self._arrivals = 0
        self._arrived = env.event()
        self.tokens_in_house = 0
        self.tally = Tally()
        env.process(self._run())

    @property
    def idle(self) -> bool:
        return not self.tokens_in_house and not self._held

    @property
    def load(self) -> int:
        """Tokens admitted or held: what a balancer that counts knows."""
        return self.tokens_in_house + sum(request.tokens for request in self._held)

    def submit(self, request: Request) -> None:
        """Answer what is cached, queue the rest when there is room for it."""
        fresh = [one for one in request.sequences if not self._is_cached(one)]
        self.tally.asked += len(request.sequences)
        self.tally.asked_tokens += request.tokens
        self.tally.cached += len(request.sequences) - len(fresh)
        request.sequences, request.left = fresh, len(fresh)
        if fresh:
            self._held.append(request)
            self._admit()
        else:
            request.answered = self._env.now

    def _is_cached(self, sequence: Sized) -> bool:
        return any(sequence.response in scores for scores in self._scores)

    def _admit(self) -> None:
        """Whoever fits goes in, the first first."""
        for request in [*self._held]:
            fits = self.tokens_in_house + request.tokens <= self._limits.queued_tokens
            if fits or not self.tokens_in_house:
                self._held.remove(request)
                self.tokens_in_house += request.tokens
                for one in request.sequences:
                    self._queue.push(Waiting(one, request))
                self._arrivals += len(request.sequences)
                if not self._arrived.triggered:
                    self._arrived.succeed()

    def _run(self) -> Process:
        while True:
            if not len(self._queue):
                self._arrived = self._env.event()
                yield self._arrived
                yield from self._gather()
            window = self._queue.take(WINDOW * self._limits.batch_tokens)
            yield from self._work_through(window)

    def _gather(self) -> Process:
        enough = self._env.now + self._limits.linger_seconds
        seen = None
        while seen != self._arrivals and (left := enough - self._env.now) > 0:
            seen = self._arrivals
            yield self._env.timeout(min(LINGER_STEP, left))

    def _work_through(self, window: list[Waiting]) -> Process:
        arrivals = self._arrivals
        batches = plan([one.sequence for one in window], self._limits.batch_tokens)
        batches.sort(key=min)
        for number, batch in enumerate(batches, start=1):
            yield from self._compute([window[i] for i in batch])
            rest = sorted(i for later in batches[number:] for i in later)
            if rest and arrivals != self._arrivals:
                self._queue.put_back([window[i] for i in rest])
                return

    def _compute(self, batch: list[Waiting]) -> Process:
        sequences = [one.sequence for one in batch]
        tokens = computed(sequences, self._prefixes)
        seconds = self._costs.of(tokens, len(batch))
        yield self._env.timeout(seconds)
        self._prefixes.keep(sequences)
        for scores in self._scores:
            scores.keep(one.response for one in sequences)
        self.tally.busy_seconds += seconds
        self.tally.computed_tokens += tokens
        self.tally.batches += 1
        for one in batch:
            self._settle(one.request)

    def _settle(self, request: Request) -> None:
        request.left -= 1
        if not request.left:
            request.answered = self._env.now
            self.tokens_in_house -= request.tokens
            self._admit()
