"""What a simulated forward holds and computes: the plan of ``plaudit.packing``, by sizes alone.

A sequence is a prompt and a response of so many tokens; two sequences share their prompt or
nothing. ``tests/bench/test_fleet_plan.py`` holds this to the plan of real token ids.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plaudit.packing import MIN_SHARED
from plaudit.prefix_cache import BLOCK


@dataclass(frozen=True, slots=True, order=True)
class Sized:
    """A sequence: which prompt, which response, and their tokens."""

    prompt: int
    response: int
    prompt_tokens: int
    response_tokens: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.response_tokens

    @property
    def prompt_blocks(self) -> int:
        """Tokens of the prompt that stand in whole blocks of the prefix cache."""
        return self.prompt_tokens // BLOCK * BLOCK

    @property
    def other_blocks(self) -> int:
        return self.tokens // BLOCK * BLOCK - self.prompt_blocks


def plan(sequences: Sequence[Sized], max_tokens: int) -> list[list[int]]:
    """Positions that go into each forward, as ``packed_batches`` groups their ids."""
    batches: list[list[int]] = []
    used = 0
    for position in sorted(range(len(sequences)), key=lambda i: sequences[i]):
        sequence = sequences[position]
        new = sequence.tokens
        if batches and sequences[batches[-1][-1]].prompt == sequence.prompt:
            new -= max(0, sequence.prompt_tokens - MIN_SHARED + 1)
        if batches and used + new <= max_tokens:
            batches[-1].append(position)
            used += new
        else:
            batches.append([position])
            used = sequence.tokens
    return batches


def computed(sequences: Iterable[Sized], known: "Prefixes | None" = None) -> int:
    """Tokens that one forward computes: a prompt once, less what is known of it."""
    groups: dict[int, list[Sized]] = {}
    for one in sequences:
        groups.setdefault(one.prompt, []).append(one)
    total = 0
    for members in groups.values():
        left = members[0].prompt_tokens
        if known is not None and known.holds(members[0]):
            left -= members[0].prompt_blocks
        times = 1 if left >= MIN_SHARED else len(members)
        total += left * times + sum(one.response_tokens for one in members)
    return total


class Prefixes:
    """The prefix cache of one replica: prompts and responses computed last, ``max_tokens`` in all.

    A prompt is used after its responses, so it leaves after them, as in ``plaudit.prefix_cache``.
    """

    def __init__(self, max_tokens: int):
        self._max, self._used = max_tokens, 0
        self._kept: OrderedDict[tuple[str, int], int] = OrderedDict()

    def holds(self, sequence: Sized) -> bool:
        return ("prompt", sequence.prompt) in self._kept

    def keep(self, sequences: Iterable[Sized]) -> None:
        for one in sequences:
            self._use("response", one.response, one.other_blocks)
            self._use("prompt", one.prompt, one.prompt_blocks)
        while self._used > self._max:
            self._used -= self._kept.popitem(last=False)[1]

    def _use(self, kind: str, key: int, tokens: int) -> None:
        if (kind, key) not in self._kept:
            self._used += tokens
        self._kept[kind, key] = tokens
        self._kept.move_to_end((kind, key))
