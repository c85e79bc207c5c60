"""Plans batches of token-id sequences. Pure: ids in, positions out; no torch.

A *packed* batch is the prefix tree of its sequences laid end to end in one row: a prompt shared by
many responses stands there once. A *padded* batch is rows of similar length.
"""

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

Ids = Sequence[int]

# A shared prefix shorter than this costs more in attention calls than it saves in tokens.
MIN_SHARED = 8


@dataclass(frozen=True, slots=True)
class Node:
    """Tokens ``start:stop`` of the row; they follow their ``parent`` node (-1: none)."""

    start: int
    stop: int
    parent: int
    first_position: int


@dataclass(frozen=True, slots=True)
class Packed:
    """One row; a node stands before its descendants.

    ``ends[i]`` is where in the row the last token of sequence i stands. What attention needs of the
    first ``held`` tokens is known; the others are computed.
    """

    ids: list[int]
    nodes: list[Node]
    ends: list[int]
    held: int = 0

    def positions(self) -> list[int]:
        """The position of each token of the row in its own sequence."""
        found: list[int] = []
        for node in self.nodes:
            found.extend(range(node.first_position, node.first_position + node.stop - node.start))
        return found

    def walks(self) -> list[list[Node]]:
        """The nodes of each sequence, root first: their tokens, one after another, are its ids."""
        return [
            [self.nodes[i] for i in (*self.ancestors(last), last)] for last in self.last_nodes()
        ]

    def last_nodes(self) -> list[int]:
        """The index of the node in which each sequence ends."""
        stops = [node.stop for node in self.nodes]
        return [bisect.bisect_right(stops, end) for end in self.ends]

    def ancestors(self, index: int) -> list[int]:
        """Indices of the nodes above a node, root first."""
        found: list[int] = []
        while (index := self.nodes[index].parent) >= 0:
            found.append(index)
        return found[::-1]


def shared(a: Ids, b: Ids) -> int:
    """Length of the common prefix."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


def pack(sequences: Sequence[Ids], min_shared: int = MIN_SHARED) -> Packed:
    """Lay the prefix tree of ``sequences`` end to end. Every sequence has at least one token."""
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    ordered = [sequences[i] for i in order]
    lcp = [shared(a, b) for a, b in itertools.pairwise(ordered)]
    packed = Packed([], [], [0] * len(sequences))
    # Each entry: sorted sequences lo:hi hang under node `parent`, which holds their first tokens.
    pending = [(0, len(ordered), -1, 0)]
    while pending:
        lo, hi, parent, depth = pending.pop()
        while lo < hi and len(ordered[lo]) == depth:  # ends on its parent's last token
            packed.ends[order[lo]] = packed.nodes[parent].stop - 1
            lo += 1
        if lo == hi:
            continue
        stop = lo + 1
        while stop < hi and lcp[stop - 1] >= depth + min_shared:
            stop += 1
        # Alone, a sequence is a leaf; together, they share a node down to where they part.
        common = min(lcp[lo : stop - 1], default=len(ordered[lo]))
        start = len(packed.ids)
        packed.ids.extend(ordered[lo][depth:common])
        packed.nodes.append(Node(start, len(packed.ids), parent, depth))
        pending.append((stop, hi, parent, depth))
        pending.append((lo, stop, len(packed.nodes) - 1, common))
    return packed


def pack_behind(
    sequences: Sequence[Ids], known: Sequence[int], min_shared: int = MIN_SHARED
) -> Packed:
    """Lay the first ``known[i]`` tokens of sequence i in the held part of the row, the others
    behind it. Of every sequence at least one token is not known."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, sequence in enumerate(sequences):
        groups.setdefault(tuple(sequence[: known[i]]), []).append(i)
    prefixes = [prefix for prefix in groups if prefix]
    front = pack(prefixes, min_shared)
    last_nodes = dict(zip(prefixes, front.last_nodes(), strict=True))
    row = Packed(front.ids, front.nodes, [0] * len(sequences), held=len(front.ids))
    for prefix, members in groups.items():
        rest = pack([sequences[i][len(prefix) :] for i in members], min_shared)
        tokens, nodes = len(row.ids), len(row.nodes)
        for node in rest.nodes:
            parent = node.parent + nodes if node.parent >= 0 else last_nodes.get(prefix, -1)
            first = node.first_position + len(prefix)
            row.nodes.append(Node(node.start + tokens, node.stop + tokens, parent, first))
        row.ids.extend(rest.ids)
        for i, end in zip(members, rest.ends, strict=True):
            row.ends[i] = end + tokens
    return row


def packed_batches(
    sequences: Sequence[Ids], max_tokens: int, min_shared: int = MIN_SHARED
) -> list[list[int]]:
    """Group sequences so that each group packs into at most ``max_tokens`` tokens, by ``pack`` with
    the same ``min_shared``.

    Sequences with a common prefix stand beside each other. Returns positions, each exactly once; a
    sequence longer than ``max_tokens`` is a batch of its own.
    """
    batches: list[list[int]] = []
    used = 0
    for position in sorted(range(len(sequences)), key=lambda i: tuple(sequences[i])):
        sequence = sequences[position]
        new = len(sequence)
        if batches:
            # pack() parts two neighbours less than min_shared tokens before they differ.
            common = shared(sequences[batches[-1][-1]], sequence)
            new -= max(0, common - min_shared + 1)
        if batches and used + new <= max_tokens:
            batches[-1].append(position)
            used += new
        else:
            batches.append([position])
            used = len(sequence)
    return batches


def padded_batches(sequences: Sequence[Ids], max_tokens: int) -> list[list[int]]:
    """Group sequences by length so that ``widest * count <= max_tokens`` in each batch.

    Returns positions, each exactly once, shortest first. A sequence longer than ``max_tokens`` is a
    batch of its own.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(sequences)), key=lambda i: len(sequences[i])):
        # Ascending order: the newcomer is the widest of the batch it joins.
        if batches and len(sequences[position]) * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches
