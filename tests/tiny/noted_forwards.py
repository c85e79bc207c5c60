"""A model that computes nothing and notes when each forward begins, in the loop's time."""

import asyncio
from dataclasses import dataclass, field

import numpy as np

from plaudit.joint_model import Asked, Computed
from plaudit.packing import padded_batches


@dataclass(eq=False)
class NotedForwards:
    """``forwards``: when each begins and the first token of each of its sequences. Every score is
    0. For an engine's thread that is the loop."""

    forwards: list[tuple[float, list[int]]] = field(default_factory=list)

    def batches(self, asked: list[Asked], max_tokens: int) -> list[list[int]]:
        return padded_batches([one.ids for one in asked], max_tokens)

    def compute(self, asked: list[Asked]) -> Computed:
        now = asyncio.get_running_loop().time()
        self.forwards.append((now, [one.ids[0] for one in asked]))
        tokens = sum(len(one.ids) for one in asked)
        return Computed(np.zeros(len(asked), np.float32), tokens, 0)

    def forget(self) -> None: ...

    def begun(self) -> dict[int, float]:
        """When each sequence began to be computed, by its first token."""
        return {first: at for at, firsts in self.forwards for first in firsts}
