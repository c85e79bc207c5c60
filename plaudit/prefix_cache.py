"""Keys and values of prefixes computed before: calls that come one by one share their prompt.

Sequences are cut into blocks of ``BLOCK`` tokens, each known by the digest of all tokens up to its
end. Blocks used longest ago leave first (as in vLLM, arXiv:2309.06180 section 4.4).

Letters: C calls of attention in one forward, T tokens, K key heads, D width of a head.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plaudit.packing import Ids, Node, Packed, pack_behind

BLOCK = 16

Chain = list[bytes]


class Memory:
    """Keys and values of one forward: those held before it, and those it is to leave behind.

    Calls are told apart by their order, so one memory serves the blocks that members share and then
    each member's own.
    """

    def __init__(self, held: Tensor | None, wanted: Tensor):
        """``held`` (C, 2, T, K D): keys and values of the row's first T tokens. ``wanted``
        (blocks, BLOCK): the computed tokens whose keys and values are remembered."""
        self._held, self._wanted = held, wanted
        self.made: list[Tensor] = []

    def extend(self, keys: Tensor, values: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        """Rows (T K, D) of the next call, behind the held ones."""
        call, tokens = len(self.made), len(keys) // heads
        own = (x.view(tokens, -1)[self._wanted] for x in (keys, values))
        self.made.append(torch.stack([*own]))
        if self._held is None:
            return keys, values
        known, held = self._held[call].reshape(2, -1, keys.shape[1])
        return torch.cat([known, keys]), torch.cat([held, values])

    def blocks(self) -> Iterator[Tensor]:
        """What is remembered, (C, 2, BLOCK, K D) for each block that was wanted."""
        for number in range(len(self._wanted)):
            yield torch.stack([call[:, number] for call in self.made])


@dataclass(frozen=True)
class Recalled:
    """The plan of some sequences behind what is known of them; the memory of its forward, and the
    digests of the blocks that it will hold."""

    packed: Packed
    memory: Memory
    chains: list[Chain]
    made: list[bytes]


class PrefixCache:
    """Blocks (C, 2, BLOCK, K D) of at most ``max_bytes`` in all. One thread's: no locks.

    A forward holds its own blocks besides until they are taken in: never more than ``max_bytes``.
    """

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self.bytes = 0
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()

    def recall(
        self, space: str, sequences: Sequence[Ids], token_bytes: int, device: torch.device
    ) -> Recalled:
        """Plan ``sequences`` behind their longest known prefixes.

        ``space`` names what computes, since keys and values of one model mean nothing to another;
        ``token_bytes`` is what they take. The last token of each sequence is always computed: its
        state gives the score.
        """
        chains = [chain(space, sequence) for sequence in sequences]
        known = [
            self._known(digests[: (len(sequence) - 1) // BLOCK])
            for digests, sequence in zip(chains, sequences, strict=True)
        ]
        packed = pack_behind(sequences, [len(blocks) * BLOCK for blocks in known])
        unknown = self._unknown(chains, packed)
        kept = list(unknown)[: self._max_bytes // (token_bytes * BLOCK)]
        nothing = torch.empty(0, BLOCK, dtype=torch.long)
        wanted = torch.stack([unknown[digest] for digest in kept]) if kept else nothing
        memory = Memory(held_states(packed, known), wanted.to(device))
        return Recalled(packed, memory, chains, kept)

    def _known(self, digests: Chain) -> list[Tensor]:
        found = []
        for digest in digests:
            if digest not in self._blocks:
                break
            found.append(self._blocks[digest])
        return found

    def _unknown(self, chains: Sequence[Chain], packed: Packed) -> dict[bytes, Tensor]:
        """Where the tokens of each block that is not here stand among the computed ones; first the
        blocks that begin a sequence, since none is of use without what comes before it."""
        found: dict[bytes, tuple[int, Tensor]] = {}
        for digests, walk in zip(chains, packed.walks(), strict=True):
            row = torch.cat([torch.arange(node.start, node.stop) for node in walk]) - packed.held
            blocks = zip(digests, torch.split(row, BLOCK), strict=False)
            for depth, (digest, tokens) in enumerate(blocks):
                if digest not in self._blocks:
                    found[digest] = depth, tokens
        return {digest: found[digest][1] for digest in sorted(found, key=lambda d: found[d][0])}

    def keep(self, recalled: Recalled) -> None:
        """Take in what the forward over ``recalled`` has made, in place of what was used before."""
        self._use(recalled.chains)
        for digest, block in zip(recalled.made, recalled.memory.blocks(), strict=True):
            while self.bytes + block.nbytes > self._max_bytes:
                self.bytes -= self._blocks.popitem(last=False)[1].nbytes
            self._blocks[digest] = block
            self.bytes += block.nbytes
        self._use(recalled.chains)

    def clear(self) -> None:
        """Let go of everything."""
        self._blocks.clear()
        self.bytes = 0

    def _use(self, chains: Sequence[Chain]) -> None:
        """A block never leaves before those that follow it: it is used after them."""
        for digests in chains:
            for digest in reversed(digests):
                if digest in self._blocks:
                    self._blocks.move_to_end(digest)


def chain(space: str, sequence: Ids) -> Chain:
    """The digest of every prefix that is whole blocks, shortest first."""
    tokens = np.asarray(sequence, np.uint64)
    digest = hashlib.sha256(space.encode()).digest()
    found = []
    for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
        digest = hashlib.sha256(digest + tokens[start : start + BLOCK].tobytes()).digest()
        found.append(digest)
    return found


def held_states(packed: Packed, known: Sequence[Sequence[Tensor]]) -> Tensor | None:
    """Keys and values (C, 2, T, K D) of the plan's T held tokens; None if there are none."""
    parts: dict[Node, Tensor] = {}
    for blocks, walk in zip(known, packed.walks(), strict=True):
        for node in walk:
            if node.stop <= packed.held and node not in parts:
                first, length = node.first_position, node.stop - node.start
                touched = blocks[first // BLOCK : -(-(first + length) // BLOCK)]
                whole = torch.cat([*touched], 2)
                parts[node] = whole[:, :, first % BLOCK :][:, :, :length]
    if not parts:
        return None
    return torch.cat([parts[node] for node in sorted(parts, key=lambda node: node.start)], 2)
