"""Raw scores of one member: from the cache, from identical work already running, or computed."""

import asyncio
import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from plaudit.wire import ItemError
from service.cache import Cache
from service.fair_queue import Caller
from service.items import Encoded, Seen
from service.member import Member
from service.metrics import Metrics
from service.work import EngineFault, Work


class Scored(Struct, frozen=True):
    """A raw score of one member."""

    score: float
    cached: bool


Outcome = Scored | ItemError


class MemberScores:
    """Looks up, joins or computes. Work that runs is known by its cache key until it is done."""

    def __init__(self, cache: Cache, metrics: Metrics):
        self._cache, self._metrics = cache, metrics
        self._running: dict[bytes, Work] = {}
        self._storing: set[asyncio.Task[None]] = set()

    async def kept(self, row: Sequence[Seen | None]) -> list[Outcome | None]:
        """The cached score of each, where there is one."""
        wanted = list(dict.fromkeys(seen.key for seen in row if seen is not None))
        known = await self._look_up(wanted) if wanted else {}
        return [
            Scored(known[seen.key], cached=True) if seen is not None and seen.key in known else None
            for seen in row
        ]

    async def of(
        self,
        members: Sequence[Member],
        rows: Sequence[Sequence[Encoded | ItemError]],
        caller: Caller,
    ) -> list[list[Outcome]]:
        """For each member a score or an error for each item of its row, in order.

        Identical items are computed once. Items are submitted one after another, each for all its
        members, so that members that share blocks meet in one forward.
        """
        wanted: dict[bytes, tuple[Member, Sequence[int]]] = {
            one.seen.key: (member, one.ids)
            for item in zip(*rows, strict=True)
            for member, one in zip(members, item, strict=True)
            if isinstance(one, Encoded)
        }
        known = await self._look_up(list(wanted))
        found: dict[bytes, Outcome] = {k: Scored(v, cached=True) for k, v in known.items()}
        found |= await self._compute({k: v for k, v in wanted.items() if k not in known}, caller)
        return [
            [found[one.seen.key] if isinstance(one, Encoded) else one for one in row]
            for row in rows
        ]

    async def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        with self._metrics.stage("cache_get"):
            return await self._cache.get(keys)

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
