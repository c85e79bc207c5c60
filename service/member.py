"""A served member, and what an engine is to the rest of the service."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from plaudit.checkpoint import Manifest
from plaudit.conversation import Encoder
from service.fair_queue import Caller
from service.work import Work

Submit = Callable[[Sequence[int], Caller], Work]


@dataclass(frozen=True)
class Member:
    """A loaded model under the name that requests use. ``submit`` queues ids for its score."""

    name: str
    manifest: Manifest
    revision: str
    encoder: Encoder
    submit: Submit


@dataclass(frozen=True)
class Trunk:
    """The lowest ``shared`` of ``blocks``: held and computed once for all of ``members``."""

    shared: int
    blocks: int
    members: tuple[str, ...]

    def without(self, name: str) -> list["Trunk"]:
        """What is left of it for the others: nothing where one would share with itself."""
        left = tuple(member for member in self.members if member != name)
        return [replace(self, members=left)] if len(left) > 1 else []


class Engine(Protocol):
    """Computes raw scores of token ids. Sees no text and no HTTP."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def numerics(self) -> str:
        """What besides the revision changes a score's last digits: part of every cache key."""

    @property
    def ready(self) -> bool:
        """Whether work is computed now, not only queued."""

    @property
    def hopeless(self) -> str | None:
        """Why only another process would compute again, or None."""

    @property
    def trunks(self) -> Sequence[Trunk]:
        """What members share, once they are open."""

    async def open(self, models: Mapping[str, Path]) -> dict[str, Member]:
        """The members by name, once their probes got the stored scores. Raises CheckpointError."""

    async def load(self, name: str, directory: Path) -> Member:
        """One more member beside those that are open, once its probes got the stored scores.

        Raises CheckpointError, MemoryError, or a Failure where the engine cannot.
        """

    def free_when_left(self, member: Member) -> None:
        """Give back what a member holds once nothing refers to it: no request, no work."""

    async def close(self) -> None:
        """Settle what is queued and stop."""
