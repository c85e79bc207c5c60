"""The order in which work waits: clients take turns, and the requests of a client, so that none
waits for the whole of another.

Among the requests of a client, deficit round robin (Shreedhar and Varghese, SIGCOMM 1995): at its
turn a request may send a quantum of tokens; what it cannot use yet it keeps for its next turn.
Among the clients of a priority, and among priorities, stride scheduling (Waldspurger and Weihl,
MIT/LCS/TM-528): next is the one that had least by its share. Clients have equal shares, however
many requests each has.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

Priority = Literal["train", "eval", "offline"]
# Parts of the tokens while all have work. A training step waits for its slowest reward, an
# evaluation for itself, nobody for offline work.
SHARES: dict[Priority, float] = {"train": 1.0, "eval": 1 / 4, "offline": 1 / 16}


@dataclass(frozen=True, eq=False)
class Caller:
    """One request, known by identity, and how urgent it is. ``client``: whose it is, by the name
    of its key; None for the service's own work."""

    priority: Priority = "train"
    client: str | None = None

    @property
    def own(self) -> bool:
        """Whether it is the service itself, as with a canary: no request waits for it."""
        return self.client is None


class Waiting(Protocol):
    """What can wait: work of a caller, of a size in tokens."""

    @property
    def caller(self) -> Caller: ...

    @property
    def tokens(self) -> int: ...


W = TypeVar("W", bound=Waiting)


@dataclass
class Flow(Generic[W]):
    """The waiting work of one caller, oldest first, and the tokens it may send at its turn."""

    works: deque[W] = field(default_factory=deque)
    credit: float = 0.0


@dataclass
class Ring(Generic[W]):
    """The requests of one client in the order of their turns, and the tokens it ``sent``."""

    flows: dict[Caller, Flow[W]] = field(default_factory=dict)
    turns: deque[Caller] = field(default_factory=deque)
    sent: float = 0.0

    def push(self, work: W) -> None:
        if work.caller not in self.flows:
            self.flows[work.caller] = Flow()
            self.turns.append(work.caller)
        self.flows[work.caller].works.append(work)

    def turn(self, quantum: int) -> list[W]:
        """What the next request may send; nothing if it still saves up for a long sequence.

        Never more than a quantum or one sequence, however much credit was put back.
        """
        caller = self.turns.popleft()
        flow = self.flows[caller]
        first = flow.works[0].tokens
        if flow.credit < first:
            flow.credit += quantum
        left = min(flow.credit, max(quantum, first))
        sent: list[W] = []
        while flow.works and flow.works[0].tokens <= left:
            sent.append(flow.works.popleft())
            left -= sent[-1].tokens
            flow.credit -= sent[-1].tokens
        if flow.works:
            self.turns.append(caller)
        else:
            del self.flows[caller]
        return sent

    def put_back(self, work: W) -> None:
        flow = self.flows.setdefault(work.caller, Flow())
        flow.works.appendleft(work)
        flow.credit += work.tokens
        if work.caller in self.turns:
            self.turns.remove(work.caller)
        self.turns.appendleft(work.caller)


@dataclass
class Lane(Generic[W]):
    """The clients of one priority; ``sent`` tokens by its share. Clients are as few as keys."""

    rings: dict[str | None, Ring[W]] = field(default_factory=dict)
    sent: float = 0.0
    now: float = 0.0  # what the client served last had sent

    def __bool__(self) -> bool:
        return any(ring.turns for ring in self.rings.values())

    def push(self, work: W) -> None:
        ring = self.rings.setdefault(work.caller.client, Ring())
        if not ring.turns:
            ring.sent = self.now
        ring.push(work)

    def turn(self, quantum: int) -> list[W]:
        """What the next client's next request may send."""
        ring = min((ring for ring in self.rings.values() if ring.turns), key=lambda one: one.sent)
        self.now = ring.sent
        sent = ring.turn(quantum)
        ring.sent += sum(work.tokens for work in sent)
        return sent

    def put_back(self, work: W) -> None:
        ring = self.rings[work.caller.client]
        ring.put_back(work)
        ring.sent -= work.tokens

    def heads(self) -> Iterator[W]:
        return (flow.works[0] for ring in self.rings.values() for flow in ring.flows.values())


class FairQueue(Generic[W]):
    """Waiting work of many callers. Not thread-safe."""

    def __init__(self, quantum: int):
        self._quantum = quantum
        self._lanes: dict[Priority, Lane[W]] = {priority: Lane() for priority in SHARES}
        self._count = 0
        self._now = 0.0  # what the lane served last had been sent by its share
        self._came: set[Priority] = set()  # lanes that stood empty and got work since the last take

    def __len__(self) -> int:
        return self._count

    def push(self, work: W) -> None:
        self._lane(work.caller).push(work)
        self._count += 1

    def _lane(self, caller: Caller) -> Lane[W]:
        """The caller's lane. One that stood empty starts level with the others, not with a claim
        on all that it did not send meanwhile."""
        lane = self._lanes[caller.priority]
        if not lane:
            lane.sent = self._now
            self._came.add(caller.priority)
        return lane

    def take(self, tokens: int) -> list[W]:
        """Work of at least ``tokens`` tokens if there is as much, and less than a turn more."""
        taken: list[W] = []
        total = 0
        self._came.clear()
        while self._count > len(taken) and total < tokens:
            priority = min((p for p in SHARES if self._lanes[p]), key=self._sent)
            lane = self._lanes[priority]
            self._now = lane.sent
            sent = lane.turn(self._quantum)
            size = sum(work.tokens for work in sent)
            lane.sent += size / SHARES[priority]
            taken += sent
            total += size
        self._count -= len(taken)
        return taken

    def _sent(self, priority: Priority) -> float:
        return self._lanes[priority].sent

    def heads(self) -> Iterator[W]:
        """The oldest work of each caller."""
        return (work for lane in self._lanes.values() for work in lane.heads())

    def put_back(self, works: Iterable[W]) -> None:
        """Return work that was taken and not begun, in its order, with the credit and the turns
        it cost. An empty lane that got work meanwhile started level with all that was taken, and
        now is with what was begun: else it would wait for what is put back."""
        for work in reversed([*works]):
            lane = self._lanes[work.caller.priority]
            lane.put_back(work)
            lane.sent -= work.tokens / SHARES[work.caller.priority]
            self._now = min(self._now, lane.sent)
            self._came.discard(work.caller.priority)
            self._count += 1
        for priority in self._came:
            self._lanes[priority].sent = self._now

    def drain(self) -> list[W]:
        """Everything that waits; the queue is empty then."""
        everything = []
        while self._count:
            everything += self.take(self._quantum)
        return everything
