"""The runs of one bench: a request to see that it works, a warm-up, and each rate."""

import argparse
import time

from plaudit.client.retry import REAL_CLOCK
from service.bench.arrivals import offsets
from service.bench.open_loop import OK, Answer, Sample, drive
from service.bench.sending import Sender
from service.bench.summary import RateResult, summarise
from service.bench.texts import BenchError
from service.bench.workload import Bodies


class Run:
    """Requests are numbered on over all rates, so that no body comes again. ``results`` are those
    of the rates so far; a rate that is measured again replaces its first."""

    def __init__(self, options: argparse.Namespace, sender: Sender, path: str, bodies: Bodies):
        self._options, self._sender, self._path, self._bodies = options, sender, path, bodies
        self._sent = 0
        self.results: list[RateResult] = []

    async def check_one(self) -> None:
        """BenchError where not even one request is answered with rewards."""
        answer = await self._send(0)
        self._sent = 1
        if answer.outcome != OK:
            said = answer.said or "see docs/problems.md, and plaudit bench --help"
            raise BenchError(f"the first request got {answer.status} {answer.outcome}: {said}")
        if answer.failed == answer.items:
            raise BenchError(
                "no item of the first request has a reward: the texts may be too long: "
                "--truncation left, or fewer --prompt-tokens"
            )

    async def warm_up(self) -> None:
        if self._options.warmup_seconds > 0:
            await self._drive(self._options.rates[0], self._options.warmup_seconds)

    async def rate(self, rate: float) -> RateResult:
        """Figures of one rate, once everything is answered."""
        cpu, wall = time.process_time(), time.perf_counter()
        samples = await self._drive(rate, self._options.seconds)
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
        result = summarise(
            samples,
            rate=rate,
            seconds=self._options.seconds,
            slo_ms=self._options.slo_ms,
            client_cpu_share=share,
            all_new=self._options.data is None and self._options.workload != "repeats",
        )
        self.results = [one for one in self.results if one.offered != rate] + [result]
        return result

    async def _drive(self, rate: float, seconds: float) -> list[Sample]:
        # Another seed for each run: the same gaps would meet the same bodies.
        seed = self._options.seed + self._sent
        times = offsets(self._options.arrivals, rate, seconds, seed) or [0.0]
        first = self._sent
        self._sent += len(times)
        return await drive(
            times, lambda n: self._send(first + n), self._sender.connections, REAL_CLOCK
        )

    async def _send(self, number: int) -> Answer:
        return await self._sender.post(self._path, self._bodies.body(number))
