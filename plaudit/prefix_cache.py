"""Keys and values of prefixes computed before: calls that come one by one share their prompt.

Sequences are cut into blocks of ``BLOCK`` tokens, each known by the digest of all tokens up to its
end. Blocks used longest ago leave first (as in vLLM, arXiv:2309.06180 section 4.4).

Letters: C calls of attention in one forward, T tokens, K key heads, D width of a head.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plaudit.packing import Ids, Node, Packed, pack_behind

BLOCK = 16

Chain = list[bytes]


class Memory:
    """Keys and values of one forward: those held before it, and those it makes.

    Calls are told apart by their order, so one memory serves the blocks that members share and then
    each member's own.
    """

    def __init__(self, held: Tensor | None = None):
        """``held`` (C, 2, T, K D): keys and values of the row's first T tokens."""
        self._held = held
        self.made: list[Tensor] = []

    def extend(self, keys: Tensor, values: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        """Rows (T K, D) of the next call, remembered; with the held ones before them."""
        own = torch.stack([keys, values])
        self.made.append(own.view(2, len(keys) // heads, -1))
        if self._held is None:
            return keys, values
        held = self._held[len(self.made) - 1].reshape(2, -1, keys.shape[1])
        whole = torch.cat([held, own], 1)
        return whole[0], whole[1]


@dataclass(frozen=True)
class Recalled:
    """The plan of some sequences behind what is known of them, and the memory of its forward."""

    packed: Packed
    memory: Memory
    chains: list[Chain]


class PrefixCache:
    """Blocks (C, 2, BLOCK, K D) of at most ``max_bytes`` in all. One thread's: no locks."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self.bytes = 0
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()

    def recall(self, space: str, sequences: Sequence[Ids]) -> Recalled:
        """Plan ``sequences`` behind their longest known prefixes.

        ``space`` names what computes: keys and values of one model mean nothing to another. The
        last token of each sequence is always computed, since its state gives the score.
        """
        chains = [chain(space, sequence) for sequence in sequences]
        known = [
            self._known(digests[: (len(sequence) - 1) // BLOCK])
            for digests, sequence in zip(chains, sequences, strict=True)
        ]
        packed = pack_behind(sequences, [len(blocks) * BLOCK for blocks in known])
        return Recalled(packed, Memory(held(packed, known)), chains)

    def _known(self, digests: Chain) -> list[Tensor]:
        found = []
        for digest in digests:
            if digest not in self._blocks:
                break
            found.append(self._blocks[digest])
        return found

    def keep(self, recalled: Recalled) -> None:
        """Take in what the forward over ``recalled`` has made."""
        places: dict[bytes, Tensor] = {}
        for digests, walk in zip(recalled.chains, recalled.packed.walks(), strict=True):
            row = torch.cat([torch.arange(node.start, node.stop) for node in walk])
            for digest, block in zip(digests, torch.split(row, BLOCK), strict=False):
                if digest not in self._blocks:
                    places[digest] = block - recalled.packed.held
        if places:
            self._put([*places], torch.stack([*places.values()]), recalled.memory.made)
        # A block never leaves before those that follow it: it is used after them.
        for digests in recalled.chains:
            for digest in reversed(digests):
                self._blocks.move_to_end(digest)
        while self.bytes > self._max_bytes:
            self.bytes -= self._blocks.popitem(last=False)[1].nbytes

    def _put(self, digests: Sequence[bytes], rows: Tensor, made: Sequence[Tensor]) -> None:
        """Blocks of the tokens at ``rows`` (blocks, BLOCK) of each call's (2, T, K D)."""
        rows = rows.to(made[0].device)
        states = torch.stack([call[:, rows] for call in made], 0)
        for digest, block in zip(digests, states.unbind(2), strict=True):
            self._blocks[digest] = block.clone(memory_format=torch.contiguous_format)
            self.bytes += self._blocks[digest].nbytes


def chain(space: str, sequence: Ids) -> Chain:
    """The digest of every prefix that is whole blocks, shortest first."""
    tokens = np.asarray(sequence, np.uint32).tobytes()
    size = len(tokens) // max(1, len(sequence)) * BLOCK
    found = []
    digest = hashlib.sha256(space.encode()).digest()
    for start in range(0, len(tokens) - size + 1, size):
        digest = hashlib.sha256(digest + tokens[start : start + size]).digest()
        found.append(digest)
    return found


def held(packed: Packed, known: Sequence[Sequence[Tensor]]) -> Tensor | None:
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
