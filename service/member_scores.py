"""Raw scores of one member: from the cache, from identical work already running, or computed."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plaudit.conversation import TokenSequence
from plaudit.wire import ItemError
from service.cache import Cache, key_of
from service.fair_queue import Caller
from service.items import Encoded
from service.member import Member
from service.metrics import Metrics
from service.work import EngineFault, Work


@dataclass(frozen=True, slots=True)
class Scored:
    """A raw score of one member."""

    score: float
    cached: bool


Outcome = Scored | ItemError


class MemberScores:
    """Looks up, joins or computes. Work that runs is known by its cache key until it is done."""

    def __init__(self, cache: Cache, numerics: str, metrics: Metrics):
        self._cache, self._numerics, self._metrics = cache, numerics, metrics
        self._running: dict[bytes, Work] = {}
        self._storing: set[asyncio.Task[None]] = set()

    async def of(
        self, members: Sequence[Member], rows: Sequence[Sequence[Encoded]], caller: Caller
    ) -> list[list[Outcome]]:
        """For each member a score or an error for each item of its row, in order.

        Identical items are computed once. Items are submitted one after another, each for all its
        members, so that members that share blocks meet in one forward.
        """
        keyed = [
            [self._key(member, one) for one in row]
            for member, row in zip(members, rows, strict=True)
        ]
        wanted: dict[bytes, tuple[Member, Sequence[int]]] = {
            key: (member, one.ids)
            for keys, items in zip(zip(*keyed, strict=True), zip(*rows, strict=True), strict=True)
            for member, key, one in zip(members, keys, items, strict=True)
            if isinstance(key, bytes) and isinstance(one, TokenSequence)
        }
        with self._metrics.stage("cache_get"):
            known = await self._cache.get(list(wanted))
        found: dict[bytes, Outcome] = {k: Scored(v, cached=True) for k, v in known.items()}
        found |= await self._compute({k: v for k, v in wanted.items() if k not in known}, caller)
        return [
            [key if isinstance(key, ItemError) else found[key] for key in keys] for keys in keyed
        ]

    def _key(self, member: Member, encoded: Encoded) -> bytes | ItemError:
        if isinstance(encoded, ItemError):
            return encoded
        return key_of(member.revision, self._numerics, encoded.ids)

    async def _compute(
        self, missing: Mapping[bytes, tuple[Member, Sequence[int]]], caller: Caller
    ) -> dict[bytes, Outcome]:
        if not missing:
            return {}
        works = {
            key: self._join(member, key, ids, caller) for key, (member, ids) in missing.items()
        }
        storing = asyncio.create_task(self._store(works))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        try:
            # Shielded: what is computed for a caller that gives up serves its next attempt.
            await asyncio.shield(storing)
        finally:
            for work in works.values():
                work.leave()
        return {key: self._outcome(missing[key][0], work) for key, work in works.items()}

    async def _store(self, works: Mapping[bytes, Work]) -> None:
        """Wait until all is settled, then cache the scores."""
        await asyncio.wait([work.done for work in works.values()])
        fresh = {
            key: work.done.result()
            for key, work in works.items()
            if not work.done.cancelled()
            and work.done.exception() is None
            and math.isfinite(work.done.result())
        }
        with self._metrics.stage("cache_set"):
            await self._cache.put(fresh)

    def _join(self, member: Member, key: bytes, ids: Sequence[int], caller: Caller) -> Work:
        """The work already running for ``key``, or new work."""
        running = self._running.get(key)
        if running is not None and not running.done.cancelled():
            running.waiters += 1
            self._metrics.joined.inc()
            return running
        work = self._running[key] = member.submit(ids, caller)
        work.done.add_done_callback(lambda _: self._forget(key, work))
        return work

    def _forget(self, key: bytes, work: Work) -> None:
        if self._running.get(key) is work:
            del self._running[key]

    def _outcome(self, member: Member, work: Work) -> Outcome:
        fault = work.done.exception()
        if isinstance(fault, EngineFault):
            return ItemError("engine-fault", str(fault))
        score = work.done.result()
        if not math.isfinite(score):
            self._metrics.nonfinite.labels(member.name).inc()
            return ItemError("non-finite", f"the model's score is {score}")
        self._metrics.score.labels(member.name).observe(score)
        return Scored(score, cached=False)
