"""Admission: little work is in the house at a time, and the rest waits before it in a fair line.

What is in the house will be computed soon; what is held can still be overtaken, refused or given up
at no cost. So the house takes what keeps the engine busy and no more, however large the bound is
that is set on its memory. Otherwise, under more load than can be served, all in it would come to be
late together.
"""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from service.fair_queue import SHARES, Caller, Priority
from service.line import Held, Line
from service.metrics import Metrics
from service.pace import Pace
from service.problems import Failure

# Until it is known how fast work goes, and at most.
RETRY_AFTER_SECONDS = 5
MOST_RETRY_SECONDS = 60
# The house takes what is computed in a second, or this many forwards if that is more.
HOUSE_SECONDS = 1.0
HOUSE_FORWARDS = 2
# Of that the least urgent may fill so much. What is left is for others, who come in at once.
ROOM: dict[Priority, float] = {"offline": 1.0, "eval": 7 / 6, "train": 4 / 3}
# A request enters only if it would be done in time even if all before it took so much longer: at
# least the first, more for each that was late all the same, and less again as others are in time.
CAUTION, MOST_CAUTION = 1.5, 3.0
MORE, LESS = 1.25, 0.98
# What a held request counts at least, towards the bound: its buffers weigh as much as tokens do.
LEAST_TOKENS = 256
# However low the bound is, so many requests may be held.
LEAST_HELD = 1024


@asynccontextmanager
async def within(deadline: float, where: str, metrics: Metrics) -> AsyncIterator[None]:
    """Failure "deadline" if the body is not done by then, in the loop's time."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        metrics.requests.deadline_expired.labels(where).inc()
        raise Failure("deadline", f"the deadline passed during {where}") from None


class Place:
    """What a request occupies in the house. ``was_held``: whether it had to wait for it;
    ``unused``: tokens for which nothing was submitted."""

    def __init__(self, house: "Admission", held: Held, was_held: bool):
        self._house, self._held, self.was_held = house, held, was_held
        self.unused = held.tokens

    def use(self, tokens: int, done: asyncio.Future[Any]) -> None:
        """So many of its tokens are in the house until ``done`` is, whoever waits for it then."""
        tokens = min(tokens, self.unused)
        self.unused -= tokens
        done.add_done_callback(lambda _: self._house.leave(self._held, tokens, scored(done)))

    def leave(self) -> None:
        if self.unused:
            self._house.leave(self._held, self.unused, computed=False)
            self.unused = 0


class Admission:
    """Holds a request until it is its turn and there is room, within the caller's deadline.

    Small requests, of half a forward at most, and larger ones have a line and room of their own:
    none of the small waits for the whole of a large one, and of large ones as few are computed at
    a time as will keep the engine busy, since many at once would all be late.
    """

    def __init__(self, max_tokens: int, metrics: Metrics, batch_tokens: int = 8192):
        self._max, self._batch, self._metrics = max_tokens, batch_tokens, metrics
        self._pace = Pace(batch_tokens, now)
        self._lines = {True: Line(), False: Line()}  # by whether a request is small
        self._used = {True: 0, False: 0}
        self._by: Counter[tuple[Priority, str | None]] = Counter()
        self._coming: Counter[tuple[Priority, str | None]] = Counter()  # tokens, about
        self._held: dict[Held, None] = {}  # the oldest first
        self._held_tokens = 0
        self._caution = CAUTION
        metrics.batches.watch_queue(self.oldest_age)

    def oldest_age(self) -> float:
        """Seconds that the request has waited that is held longest; 0 when none is."""
        oldest = next(iter(self._held), None)
        return 0.0 if oldest is None else now() - oldest.since

    @asynccontextmanager
    async def admit(self, caller: Caller, tokens: int, deadline: float) -> AsyncIterator[Place]:
        """Hold ``tokens`` while the body runs, which ends at ``deadline`` in the loop's time.

        Failure "overloaded" if there was no room in time, "deadline" if the body was not done. A
        request larger than the whole budget enters when nothing large is in the house.
        """
        held = Held(caller, tokens, deadline, now(), asyncio.get_running_loop().create_future())
        with self._metrics.stage("admit"):
            place = Place(self, held, await self._enter(held))
        try:
            async with within(deadline, "compute", self._metrics):
                yield place
            if held.judged:
                self._caution = max(CAUTION, self._caution * LESS)
        except Failure as failure:
            if held.judged and failure.kind == "deadline":
                self._caution = min(MOST_CAUTION, self._caution * MORE)
            raise
        finally:
            place.leave()

    def refuse_hopeless(self, caller: Caller, deadline: float, spared: Callable[[], bool]) -> None:
        """Failure "overloaded" for a request that comes while others are held and is too late
        however small it is. Whether it is ``spared`` is asked only then."""
        if not self._held or not self._is_too_long(self._lines.values(), caller, deadline):
            return
        if not spared():
            raise self._refusal("queue-full")

    def _is_too_long(self, lines: Iterable[Line], caller: Caller, deadline: float) -> bool:
        coming = self._coming[caller.priority, caller.client]
        if not coming and not any(self._used.values()):
            return False
        before = min(line.before(caller) for line in lines) + coming
        return now() + self._seconds_for(caller, before) > deadline

    @contextmanager
    def coming(self, caller: Caller, tokens: int, deadline: float) -> Iterator[None]:
        """While the body prepares a request of about so many tokens, as by tokenising it. Failure
        "overloaded", before any such work, where what is before it already takes too long. Its own
        tokens count for those behind it only: it may yet be found in the cache."""
        if self._is_too_long([self._lines[tokens <= self._batch // 2]], caller, deadline):
            raise self._refusal("queue-full")
        key = caller.priority, caller.client
        self._coming[key] += tokens
        try:
            yield
        finally:
            self._coming[key] -= tokens

    async def _enter(self, held: Held) -> bool:
        """Whether it had to wait. Failure "overloaded"."""
        if not held.tokens:  # it waits for what is computed already
            return False
        try:
            self._hold(held)
            self._let_in()
            if has_entered(held):
                return False
            async with asyncio.timeout_at(held.deadline - self._pace.seconds(held.tokens)):
                await held.entered
        except BaseException as error:
            if has_entered(held):
                self.leave(held, held.tokens, computed=False)
            if isinstance(error, TimeoutError):
                raise self._refusal("queue-full") from None
            raise
        finally:
            self._release(held)
        return True

    def _hold(self, held: Held) -> None:
        self._lines[self._small(held)].push(held)
        self._held[held] = None
        self._show()
        self._held_tokens += max(held.tokens, LEAST_TOKENS)
        most = max(self._max, LEAST_HELD * LEAST_TOKENS)
        if self._held_tokens > most and len(self._held) > 1:
            line = max(self._lines.values(), key=lambda one: one.tokens)
            self._refuse(line.least(), "line-full")

    def _release(self, held: Held) -> None:
        """It is held no longer."""
        if held in self._held:
            self._lines[self._small(held)].remove(held)
            del self._held[held]
            self._held_tokens -= max(held.tokens, LEAST_TOKENS)
            self._show()

    def _refuse(self, held: Held, reason: str) -> None:
        self._release(held)
        if held.entered.done():  # its caller has hung up and does not know yet
            return
        held.entered.set_exception(self._refusal(reason))
        held.entered.exception()  # marked as seen: its caller may yet hang up

    def _refusal(self, reason: str) -> Failure:
        """Of one request, counted by ``reason``."""
        self._metrics.requests.admission_rejections.labels(reason).inc()
        used = sum(self._used.values())
        wait = math.ceil(self._pace.seconds(used + self._held_tokens)) or RETRY_AFTER_SECONDS
        said = f"{used} tokens are being computed and {self._held_tokens} are held before them"
        return Failure("overloaded", said, retry_after_seconds=min(wait, MOST_RETRY_SECONDS))

    def _small(self, held: Held) -> bool:
        return held.tokens <= self._batch // 2

    def _let_in(self) -> None:
        """Those whose turn it is, as long as there is room; what would be late is refused."""
        for line in self._lines.values():
            while (held := line.head()) is not None:
                if held.entered.done():  # its caller has hung up
                    self._release(held)
                elif self._too_late(held):
                    self._refuse(held, "queue-full")
                elif self._fits(held):
                    held.judged = self._can_judge()
                    line.enter(held)
                    self._release(held)
                    self._move(held, held.tokens)
                    held.entered.set_result(None)
                else:
                    break

    def _fits(self, held: Held) -> bool:
        small, caller = self._small(held), held.caller
        used, total = self._used[small], sum(self._used.values())
        first_of_client = small and not self._by[caller.priority, caller.client]
        if not used or first_of_client:
            return True
        if total + held.tokens > self._max:
            return False
        second = HOUSE_SECONDS * (self._pace.tokens_per_second or 0.0)
        room = ROOM[caller.priority] * max(HOUSE_FORWARDS * self._batch, second)
        return used + held.tokens <= room or (not small and used < self._batch)

    def _too_late(self, held: Held) -> bool:
        """Whether it would not be done in time if it entered now. In an empty house none is: what
        alone takes long enough to be late, the caller may well try."""
        return (
            self._can_judge()
            and now() + self._seconds_for(held.caller, held.tokens) > held.deadline
        )

    def _can_judge(self) -> bool:
        return any(self._used.values()) and self._pace.tokens_per_second is not None

    def _seconds_for(self, caller: Caller, tokens: int) -> float:
        """Until so many are computed, after what is in the house, to be on the safe side."""
        first = self._caution * self._ahead(caller) + self._batch / 2
        return self._pace.seconds(first + tokens)

    def _ahead(self, caller: Caller) -> float:
        """Tokens in the house that are computed before those of the caller: the more urgent, and as
        clients take turns, as much of others as of its own, and the forward that is under way."""
        urgent = [*SHARES][: [*SHARES].index(caller.priority)]
        before = sum(used for (one, _), used in self._by.items() if one in urgent)
        beside = {who: n for (one, who), n in self._by.items() if one == caller.priority and n}
        own = beside.get(caller.client, 0)
        turns = self._batch + own * len(beside.keys() | {caller.client})
        return before + min(sum(beside.values()), turns)

    def leave(self, held: Held, tokens: int, computed: bool) -> None:
        """So many tokens of a request that has entered are in the house no more."""
        self._move(held, -tokens, computed=tokens if computed else 0)
        self._let_in()

    def _move(self, held: Held, tokens: int, computed: int = 0) -> None:
        self._used[self._small(held)] += tokens
        self._by[held.caller.priority, held.caller.client] += tokens
        self._pace.changed(sum(self._used.values()), computed)
        self._show()

    def _show(self) -> None:
        held = sum(line.tokens for line in self._lines.values())
        self._metrics.batches.queue_tokens.set(sum(self._used.values()) + held)


def now() -> float:
    return asyncio.get_running_loop().time()


def scored(done: asyncio.Future[Any]) -> bool:
    return not done.cancelled() and done.exception() is None


def has_entered(held: Held) -> bool:
    return held.entered.done() and not held.entered.cancelled() and not held.entered.exception()
