"""Requests that are held before admission, in the order in which they shall enter.

Priorities take turns by their shares, clients of a priority equally, both by tokens that entered
(stride scheduling, as in ``fair_queue``); requests of one client in the order in which they came.
"""

import asyncio
from dataclasses import dataclass, field

from service.fair_queue import SHARES, Caller, Priority


@dataclass(eq=False)
class Held:
    """A request that waits for room. ``entered`` is settled when it has room or never will;
    ``deadline`` and ``since`` are in the loop's time. ``judged``: whether it entered because it
    would be in time."""

    caller: Caller
    tokens: int
    deadline: float
    since: float
    entered: asyncio.Future[None]
    judged: bool = False


@dataclass
class Turns:
    """The requests of one client, the oldest first, their tokens, and those of which entered."""

    held: dict[Held, None] = field(default_factory=dict)
    tokens: int = 0
    sent: float = 0.0


@dataclass
class Rank:
    """The clients of one priority, and the tokens that entered by its share."""

    clients: dict[str | None, Turns] = field(default_factory=dict)
    sent: float = 0.0
    now: float = 0.0  # what the client that entered last had sent

    def waiting(self) -> list[Turns]:
        return [turns for turns in self.clients.values() if turns.held]


class Line:
    """Who is held. Whoever had none here starts level with the others, as in the fair queue."""

    def __init__(self) -> None:
        self._ranks: dict[Priority, Rank] = {priority: Rank() for priority in SHARES}
        self._now = 0.0
        self.tokens = 0

    def push(self, held: Held) -> None:
        rank = self._ranks[held.caller.priority]
        if not rank.waiting():
            rank.sent = self._now
        turns = rank.clients.setdefault(held.caller.client, Turns())
        if not turns.held:
            turns.sent = rank.now
        turns.held[held] = None
        turns.tokens += held.tokens
        self.tokens += held.tokens

    def head(self) -> Held | None:
        """Whose turn it is to enter."""
        ranks = [rank for rank in self._ranks.values() if rank.waiting()]
        if not ranks:
            return None
        rank = min(ranks, key=lambda one: one.sent)
        return next(iter(min(rank.waiting(), key=lambda one: one.sent).held))

    def enter(self, held: Held) -> None:
        """It leaves the line for the house, and has had its turn."""
        rank, turns = self._of(held)
        self._now, rank.now = rank.sent, turns.sent
        rank.sent += held.tokens / SHARES[held.caller.priority]
        turns.sent += held.tokens
        self.remove(held)

    def remove(self, held: Held) -> None:
        """It leaves the line, if it still is there."""
        _, turns = self._of(held)
        if held in turns.held:
            del turns.held[held]
            turns.tokens -= held.tokens
            self.tokens -= held.tokens

    def _of(self, held: Held) -> tuple[Rank, Turns]:
        rank = self._ranks[held.caller.priority]
        return rank, rank.clients[held.caller.client]

    def before(self, caller: Caller) -> int:
        """Tokens that would enter before a request of the caller that came now: the more urgent,
        and of others as urgent as much as of its own client, which came before it."""
        ranks = iter(self._ranks.items())
        total = 0
        for priority, rank in ranks:
            if priority == caller.priority:
                break
            total += sum(turns.tokens for turns in rank.waiting())
        beside = rank.waiting()
        own = rank.clients[caller.client].tokens if caller.client in rank.clients else 0
        return total + min(sum(turns.tokens for turns in beside), own * len(beside))

    def least(self) -> Held:
        """Who gives way when the line is too long: the newest request of the client that holds the
        most of the least urgent priority. There must be somebody."""
        *_, rank = (rank for rank in self._ranks.values() if rank.waiting())
        most = max(rank.waiting(), key=lambda one: one.tokens)
        return next(reversed(most.held))
