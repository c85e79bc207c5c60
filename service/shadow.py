"""A new checkpoint scores a share of what is asked beside the old one, and nobody is told.

Callers get the old one's scores and wait for none of this: the new one's forwards are small ones
between theirs. Texts are held until they are scored; of each item a pair of rewards is kept.
"""

import asyncio
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from plaudit.wire import Item, ItemError
from service.fair_queue import Caller
from service.items import Cut, Encoded, Seen, encode
from service.member import Member
from service.member_scores import Outcome, Scored
from service.swap_report import Compared, Report
from service.swap_request import ShadowPlan
from service.work import Work

# Tokens that may wait to be compared, those that will be cut away too: what is held in memory. A
# request that comes while so many wait is left out.
MOST_WAITING = 262_144
# Tokens of one forward, or one sequence: callers wait for no longer one.
TURN_TOKENS = 2048
# Answers to one prompt whose preferences are compared with each other.
MOST_IN_GROUP = 256


@dataclass
class Pair:
    """The member that answers, and the one that may take its place."""

    old: Member
    new: Member
    compared: Compared = field(default_factory=Compared)


@dataclass(frozen=True)
class Sample:
    """An item that the old member scored."""

    item: Item
    cut: Cut
    group: int
    reward: float
    seen: Seen

    @property
    def size(self) -> int:
        """Tokens of the whole text."""
        return self.seen.tokens + self.seen.truncated


class Shadow:
    """Compares ``pairs`` as the plan says. ``tried`` is told how many items of each model were
    compared; ``draw`` gives numbers in [0, 1)."""

    def __init__(
        self,
        pairs: Sequence[tuple[Member, Member]],
        plan: ShadowPlan,
        numerics: str,
        tried: dict[str, int],
        draw: Callable[[], float] = random.random,
    ):
        self.pairs = {old.name: Pair(old, new) for old, new in pairs}
        self._plan, self._numerics, self._draw = plan, numerics, draw
        self._tried = tried
        self._groups = itertools.count()
        self._waiting = 0
        self._jobs: asyncio.Queue[tuple[Pair, list[Sample]]] = asyncio.Queue()

    def saw(
        self,
        members: Sequence[Member],
        items: Sequence[Item],
        cut: Cut,
        seen: Sequence[Sequence[Seen | ItemError]],
        outcomes: Sequence[Sequence[Outcome]],
    ) -> None:
        """A request was answered so. Takes no time: what is of the share waits its turn."""
        if self._draw() >= self._plan.share:
            return
        groups = [*self._groups_of(items)]
        for member, read, scored in zip(members, seen, outcomes, strict=True):
            pair = self.pairs.get(member.name)
            if pair is None or pair.old is not member or self._enough(pair):
                continue
            rows = zip(items, groups, read, scored, strict=True)
            samples = [
                Sample(item, cut, group, reward_of(member, one, outcome.score), one)
                for item, group, one, outcome in rows
                if isinstance(one, Seen) and isinstance(outcome, Scored)
            ]
            self._queue(pair, [one for one in samples if math.isfinite(one.reward)])

    def _groups_of(self, items: Sequence[Item]) -> Iterator[int]:
        """A number for each item, the same for answers to one prompt in this request."""
        numbers: dict[object, int] = {}
        sizes: Counter[object] = Counter()
        for item in items:
            prompt = prompt_of(item)
            key = prompt, sizes[prompt] // MOST_IN_GROUP
            sizes[prompt] += 1
            if key not in numbers:
                numbers[key] = next(self._groups)
            yield numbers[key]

    def _queue(self, pair: Pair, samples: list[Sample]) -> None:
        size = sum(one.size for one in samples)
        if self._waiting and self._waiting + size > MOST_WAITING:
            pair.compared.skipped += len(samples)
        elif samples:
            self._waiting += size
            self._jobs.put_nowait((pair, samples))

    def _enough(self, pair: Pair) -> bool:
        return len(pair.compared) >= self._plan.items

    async def run(self) -> None:
        """Until every pair has enough, or the time is up."""
        try:
            async with asyncio.timeout(self._plan.seconds):
                while not all(map(self._enough, self.pairs.values())):
                    pair, samples = await self._jobs.get()
                    left = max(0, self._plan.items - len(pair.compared))
                    await self._compare(pair, samples[:left])
                    self._waiting -= sum(one.size for one in samples)
        except TimeoutError:
            pass  # what was compared till then is reported

    def reports(self) -> dict[str, Report]:
        """Takes seconds, of a hundred thousand items."""
        return {name: pair.compared.report() for name, pair in self.pairs.items()}

    async def _compare(self, pair: Pair, samples: Sequence[Sample]) -> None:
        encoded = await asyncio.to_thread(self._encode, pair.new, samples)
        for turn in turns(samples, encoded):
            await score(pair, turn)
            self._tried[pair.old.name] = len(pair.compared)

    def _encode(self, member: Member, samples: Sequence[Sample]) -> list[Encoded | ItemError]:
        return [encode(member, self._numerics, one.item, one.cut) for one in samples]


async def score(pair: Pair, turn: Sequence[tuple[Sample, Encoded | ItemError]]) -> None:
    """One small forward of the new member, as the service's own work: no caller waits for it."""
    caller, compared = Caller("offline"), pair.compared
    read = [(sample, one) for sample, one in turn if isinstance(one, Encoded)]
    compared.failed.update(one.type for _, one in turn if isinstance(one, ItemError))
    works = [pair.new.submit(one.ids, caller) for _, one in read]
    try:
        if works:
            await asyncio.wait([work.done for work in works])
    finally:
        for work in works:
            work.leave()
    for (sample, one), work in zip(read, works, strict=True):
        note(pair, sample, one.seen, work)


def note(pair: Pair, sample: Sample, seen: Seen, work: Work) -> None:
    """What the new member made of an item."""
    if work.done.cancelled() or work.done.exception() is not None:
        pair.compared.failed["engine-fault"] += 1
        return
    new = reward_of(pair.new, seen, work.done.result())
    if math.isfinite(new):
        pair.compared.add(sample.group, sample.reward, new, sample.seen.tokens, seen.tokens)
    else:
        pair.compared.failed["non-finite"] += 1


def turns(
    samples: Sequence[Sample], encoded: Sequence[Encoded | ItemError]
) -> Iterator[list[tuple[Sample, Encoded | ItemError]]]:
    """In order, of at most so many tokens, or of a single item that has more."""
    turn: list[tuple[Sample, Encoded | ItemError]] = []
    tokens = 0
    for sample, one in zip(samples, encoded, strict=True):
        size = one.seen.tokens if isinstance(one, Encoded) else 0
        if turn and tokens + size > TURN_TOKENS:
            yield turn
            turn, tokens = [], 0
        turn.append((sample, one))
        tokens += size
    if turn:
        yield turn


def reward_of(member: Member, seen: Seen, score: float) -> float:
    return member.manifest.calibration.reward(score, seen.characters)


def prompt_of(item: Item) -> object:
    """What tells an item's prompt from others; None for all whose text does not."""
    if isinstance(item.prompt, list):
        return msgspec.json.encode(item.prompt)
    if item.messages:
        return msgspec.json.encode(item.messages[:-1])
    return item.prompt
