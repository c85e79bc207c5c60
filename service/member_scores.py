"""Raw scores of one member: from the cache, from identical work already running, or computed."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from msgspec import Struct

from plaudit.wire import ItemError
from service.admission import Place
from service.cache import Cache
from service.fair_queue import Caller
from service.items import Encoded, Seen
from service.member import Member
from service.metrics import Metrics
from service.problems import Failure
from service.quarantine import Quarantine
from service.work import EngineFault, Work

# For who found no memory: until others have given some back.
RETRY_AFTER_SECONDS = 10


class Scored(Struct, frozen=True):
    """A raw score of one member."""

    score: float
    cached: bool


Outcome = Scored | ItemError
Missing = Mapping[bytes, tuple[Member, Encoded]]
# Holds so many tokens until there is room for them.
Admit = Callable[[int], AbstractAsyncContextManager[Place]]


class MemberScores:
    """Looks up, joins or computes. Work that runs is known by its cache key until it is done."""

    def __init__(self, cache: Cache, metrics: Metrics):
        self._cache, self._metrics = cache, metrics
        self._quarantine = Quarantine(metrics)
        self._running: dict[bytes, Work] = {}
        # When each member last gave a score, by ``time.perf_counter``.
        self.computed_at: dict[str, float] = {}
        self._storing: set[asyncio.Task[None]] = set()

    def kept(self, row: Sequence[Seen | None]) -> list[Scored | None]:
        """The score of each that this process still has."""
        wanted = list(dict.fromkeys(seen.key for seen in row if seen is not None))
        if not wanted:
            return [None] * len(row)
        with self._metrics.stage("cache_get"):
            known = self._cache.held(wanted)
        found: list[Scored | None] = []
        saved = 0
        for seen in row:
            score = None if seen is None else known.get(seen.key)
            found.append(None if score is None else Scored(score, cached=True))
            if seen is not None and score is not None:
                saved += seen.tokens
        self._metrics.saved(saved)
        return found

    async def of(
        self,
        members: Sequence[Member],
        rows: Sequence[Sequence[Encoded | ItemError]],
        kept: Sequence[Sequence[Scored | None]],
        caller: Caller,
        admit: Admit,
    ) -> list[list[Outcome]]:
        """For each member a score or an error for each item of its row, in order; where ``kept``
        has a score, that.

        What must be computed is admitted first: what is cached or under way needs no room.
        Identical items are computed once. Items are submitted one after another, each for all its
        members, so that members that share blocks meet in one forward.
        """
        known: dict[bytes, Outcome] = {
            one.seen.key: score
            for row, scores in zip(rows, kept, strict=True)
            for one, score in zip(row, scores, strict=True)
            if isinstance(one, Encoded) and score is not None
        }
        wanted: dict[bytes, tuple[Member, Encoded]] = {
            one.seen.key: (member, one)
            for item in zip(*rows, strict=True)
            for member, one in zip(members, item, strict=True)
            if isinstance(one, Encoded) and one.seen.key not in known
        }
        found = known | await self._known(wanted)
        missing = {key: one for key, one in wanted.items() if key not in found}
        if missing:
            found |= await self._admitted(missing, caller, admit)
        return [
            [found[one.seen.key] if isinstance(one, Encoded) else one for one in row]
            for row in rows
        ]

    async def _known(self, wanted: Missing) -> dict[bytes, Outcome]:
        """The scores in the cache, and the errors of what is in quarantine."""
        with self._metrics.stage("cache_get"):
            known = await self._cache.get(list(wanted))
        return self._found(wanted, known)

    def _known_here(self, wanted: Missing) -> dict[bytes, Outcome]:
        """The same of this process alone, which is not a second look-up: no miss is counted."""
        return self._found(wanted, self._cache.held(list(wanted)))

    def _found(self, wanted: Missing, known: Mapping[bytes, float]) -> dict[bytes, Outcome]:
        self._metrics.saved(sum(wanted[key][1].seen.tokens for key in known))
        refused = self._quarantine.refused(key for key in wanted if key not in known)
        return {key: Scored(score, cached=True) for key, score in known.items()} | refused

    async def _admitted(
        self, missing: Missing, caller: Caller, admit: Admit
    ) -> dict[bytes, Outcome]:
        tokens = sum(one.seen.tokens for _, one in self._idle(missing).values())
        async with admit(tokens) as place:
            if not place.was_held:
                return await self._compute(missing, caller, place)
            # Another caller may have had the same computed meanwhile, or found that it cannot be.
            found = self._known_here(missing)
            missing = {key: one for key, one in missing.items() if key not in found}
            return found | await self._compute(missing, caller, place)

    def _idle(self, missing: Missing) -> Missing:
        """Those that are not under way."""
        return {key: one for key, one in missing.items() if not self._is_running(key)}

    def _is_running(self, key: bytes) -> bool:
        return key in self._running and joinable(self._running[key])

    async def _compute(
        self, missing: Missing, caller: Caller, place: Place
    ) -> dict[bytes, Outcome]:
        if not missing:
            return {}
        new = self._idle(missing)
        works = {key: self._join(member, one, caller) for key, (member, one) in missing.items()}
        for key in new:
            place.use(works[key].tokens, works[key].done)
        storing = asyncio.create_task(self._store(works))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        try:
            # Shielded: what is computed for a caller that gives up serves its next attempt.
            await asyncio.shield(storing)
        finally:
            for work in works.values():
                work.leave()
        return {key: self._outcome(work) for key, work in works.items()}

    async def _store(self, works: Mapping[bytes, Work]) -> None:
        """Wait until all is settled, then cache the scores."""
        await asyncio.wait([work.done for work in works.values()])
        self._trace(works.values())
        fresh = {
            key: work.done.result()
            for key, work in works.items()
            if not work.done.cancelled()
            and work.done.exception() is None
            and math.isfinite(work.done.result())
        }
        try:
            with self._metrics.stage("cache_set"):
                await self._cache.put(fresh)
        finally:
            for key, work in works.items():  # until here who came would have found it nowhere
                if self._running.get(key) is work:
                    del self._running[key]

    def _trace(self, works: Iterable[Work]) -> None:
        """Of those that were computed: from the first that waited to the last that was done."""
        begun = [work for work in works if work.begun_at and work.ended_at]
        if begun:
            first = min(work.begun_at for work in begun)
            count = {"plaudit.sequences": len(begun)}
            traces = self._metrics.traces
            traces.spent("queue", min(work.since for work in begun), first, count)
            traces.spent("compute", first, max(work.ended_at for work in begun), count)

    def _join(self, member: Member, one: Encoded, caller: Caller) -> Work:
        """The work already running for the same, or new work."""
        key = one.seen.key
        running = self._running.get(key)
        if running is not None and joinable(running):
            running.waiters += 1
            self._metrics.cache.joined.inc()
            self._metrics.saved(one.seen.tokens)
            return running
        work = self._running[key] = member.submit(one.ids, caller)
        work.done.add_done_callback(lambda _: self._settled(member, one.seen, work))
        return work

    def _settled(self, member: Member, seen: Seen, work: Work) -> None:
        """Once for each sequence that was computed or given up, however many wait for it."""
        if work.done.cancelled():
            return
        fault = work.done.exception()
        if isinstance(fault, EngineFault):
            self._quarantine.note(seen.key, fault)
            return
        self._quarantine.clear(seen.key)
        self.computed_at[member.name] = work.ended_at
        score = work.done.result()
        if math.isfinite(score):
            rewards = self._metrics.rewards
            rewards.computed(member.name, member.revision, score, seen.characters)
        else:
            self._metrics.rewards.nonfinite.labels(member.name).inc()

    def _outcome(self, work: Work) -> Outcome:
        fault = work.done.exception()
        if isinstance(fault, EngineFault):
            return ItemError(fault.kind, str(fault))
        score = work.done.result()
        if not math.isfinite(score):
            return ItemError("non-finite", f"the model's score is {score}")
        return Scored(score, cached=False)


def refuse_without_memory(outcomes: Sequence[Sequence[Outcome]]) -> None:
    """Failure "capacity" where memory was wanting for everything that was asked."""
    found = [one for row in outcomes for one in row]
    if found and all(isinstance(one, ItemError) and one.type == "capacity" for one in found):
        raise Failure("capacity", "no memory for any item by itself", RETRY_AFTER_SECONDS)


def joinable(work: Work) -> bool:
    """Whether it has a score, may yet have one, or failed by itself: another try would too."""
    if not work.done.done():
        return True
    if work.done.cancelled():
        return False
    fault = work.done.exception()
    return fault is None or (isinstance(fault, EngineFault) and fault.held_seconds > 0)
