"""Members that share their lowest blocks: held once, and computed once for all of them.

Members trained on one frozen trunk differ in their upper blocks alone, and so does their average.
Letters: T tokens of a packed row, D width.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plaudit import probes
from plaudit.batch import Batch, PackedBatch, batch_for
from plaudit.blocks import can_split, lower, upper, upper_states
from plaudit.forward import run_packed, scores
from plaudit.prefix_cache import PrefixCache, Recalled
from plaudit.reward_model import RewardModel, Scores
from plaudit.scalar_head import apply_head

# Entries of a config that say where it comes from, not what the model computes.
PROVENANCE = {"_name_or_path", "transformers_version", "architectures", "dtype"}

# The positions of each forward, as they are given out.
Watched = Callable[[list[list[int]]], Iterable[list[int]]]


class Asked(NamedTuple):
    """A sequence of token ids and the position of the member that is to score it."""

    member: int
    ids: Sequence[int]


class Computed(NamedTuple):
    """Scores of one forward, the tokens that it sent through the members, and padding beside them.

    A token counts once for each member; for every member after the first only by the share of its
    blocks that are not shared.
    """

    scores: Scores
    tokens: int
    padding: int


class JointModel:
    """One member or several; blocks that all share stand in memory once."""

    def __init__(self, first: RewardModel, prefixes: PrefixCache | None = None):
        """``prefixes`` remembers from forward to forward; sequences of one forward always share."""
        self.members = [first]
        self.shared_blocks = 0
        self._prefixes = prefixes if first.packs else None
        self._trunk: nn.Module | None = None
        self._tops: list[nn.Module] = []

    @property
    def blocks(self) -> int:
        """How many blocks each member has, shared ones included."""
        found: int = self.members[0].classifier.config.num_hidden_layers
        return found

    def adopt(self, model: RewardModel) -> bool:
        """Add a model that shares at least as many lowest blocks as the members do, if it does.

        It gives up its own copies of them; from then on its blocks belong to all members. Blocks
        are compared tensor by tensor, so no flag and no name decides.
        """
        first = self.members[0].classifier
        shared = count_shared_blocks(first, model.classifier)
        if shared < max(1, self.shared_blocks):
            return False
        if self._trunk is None:
            self.shared_blocks = shared
            self._trunk = lower(first, shared)
            self._tops = [upper(first, shared)]
        body = model.classifier.base_model
        body.embed_tokens = first.base_model.embed_tokens
        for i in range(self.shared_blocks):
            body.layers[i] = first.base_model.layers[i]
        self._tops.append(upper(model.classifier, self.shared_blocks))
        self.members.append(model)
        return True

    def drop(self, member: int) -> None:
        """Let go of a member that nobody asks for any more, unless it is the last.

        Another is held in its place, so that each of the others keeps its own.
        """
        gone = self.members[member]
        left = [place for place, one in enumerate(self.members) if one is not gone]
        if not left:
            return
        for place, one in enumerate(self.members):
            if one is gone:
                self.members[place] = self.members[left[0]]
                self._tops[place] = self._tops[left[0]]

    def batches(self, asked: Sequence[Asked], max_tokens: int) -> list[list[int]]:
        """Positions that go into each forward of at most ``max_tokens``.

        Sequences wanted of the same members go together: no forward computes what nobody asked.
        """
        places: dict[tuple[int, ...], list[int]] = {}
        for position, one in enumerate(asked):
            places.setdefault(tuple(one.ids), []).append(position)
        alike: dict[frozenset[int], list[list[int]]] = {}
        for positions in places.values():
            wanted = frozenset(asked[position].member for position in positions)
            alike.setdefault(wanted, []).append(positions)
        found = []
        for group in alike.values():
            sequences = [asked[positions[0]].ids for positions in group]
            for batch in self.members[0].batches(sequences, max_tokens):
                found.append([position for i in batch for position in group[i]])
        return found

    @torch.inference_mode()
    def compute(self, asked: Sequence[Asked], remember: bool = True) -> Computed:
        """One forward. Its scores are in the order of ``asked``. What it makes of prefixes is
        remembered, and what others made used, unless ``remember`` is False."""
        sequences, wanted = _distinct(asked)
        prefixes = self._prefixes if remember else None
        first = self.members[0].classifier
        blocks = self.blocks
        times = len(wanted) - self.shared_blocks * (len(wanted) - 1) / blocks
        if prefixes is None:
            batch = batch_for(first, [*sequences])
            found = self._scores(batch, wanted)
        else:
            recalled = self._recall(prefixes, [*sequences], wanted, round(times * blocks))
            batch = PackedBatch.planned(recalled.packed, first.device, recalled.memory)
            found = self._scores(batch, wanted)
            prefixes.keep(recalled)
        rows = dict(zip(wanted, found, strict=True))
        in_order = [rows[one.member][sequences[tuple(one.ids)]] for one in asked]
        return Computed(
            np.array(in_order, np.float32),
            round(batch.tokens * times),
            round(batch.padding * times),
        )

    def forget(self) -> None:
        """Let go of what is remembered from forward to forward."""
        if self._prefixes is not None:
            self._prefixes.clear()

    def _recall(
        self,
        prefixes: PrefixCache,
        sequences: Sequence[Sequence[int]],
        wanted: Sequence[int],
        calls: int,
    ) -> Recalled:
        """What is known of ``sequences`` in a forward of some members, of that many attentions."""
        first = self.members[0].classifier
        space = " ".join(f"{member} {self.members[member].revision}" for member in wanted)
        return prefixes.recall(space, sequences, calls * memory_bytes(first), first.device)

    def _scores(self, batch: Batch, wanted: Sequence[int]) -> list[Scores]:
        """Raw scores of the batch by each wanted member."""
        models = [self.members[member].classifier for member in wanted]
        if self._trunk is None or len(wanted) == 1:
            return [scores(model, batch).cpu().numpy() for model in models]
        assert isinstance(batch, PackedBatch)
        hidden = run_packed(self._trunk, batch, input_ids=batch.ids)
        tops = [self._tops[member] for member in wanted]
        return [
            apply_head(model, upper_states(top, batch, hidden)).cpu().numpy()
            for model, top in zip(models, tops, strict=True)
        ]

    def score_all(
        self, asked: Sequence[Asked], max_tokens: int = 4096, watched: Watched = iter
    ) -> Scores:
        """Raw scores of any number of entries, in order. ``watched`` goes through the forwards, and
        may show how far they are."""
        found = np.empty(len(asked), np.float32)
        for batch in watched(self.batches(asked, max_tokens)):
            found[batch] = self.compute([asked[i] for i in batch]).scores
        return found

    def score_each(
        self, sequences: Sequence[Sequence[Sequence[int]]], watched: Watched = iter
    ) -> Scores:
        """Raw scores (M, N) of N sequences for each of the M members, encoded as it reads them;
        ``watched`` as for ``score_all``."""
        asked = [Asked(member, ids) for member, own in enumerate(sequences) for ids in own]
        return self.score_all(asked, watched=watched).reshape(len(sequences), -1)

    def verify_probes(self, dtype: str) -> None:
        """Re-score every member's stored probes the way they are served; CheckpointError."""
        encoded = [probes.stored_ids(model) for model in self.members]
        asked = [Asked(member, ids) for member, some in enumerate(encoded) for ids in some]
        scores = self.score_all(asked)
        for member, model in enumerate(self.members):
            own = np.array([one.member == member for one in asked], bool)
            if own.any():
                probes.check(model, scores[own], dtype)


def join(models: Iterable[RewardModel], prefixes: PrefixCache | None = None) -> list[JointModel]:
    """Each model with the first that it shares blocks with, or by itself."""
    found: list[JointModel] = []
    for model in models:
        for member in (member for joint in found for member in joint.members):
            hold_once(member.classifier, model.classifier)
        if not any(joint.adopt(model) for joint in found):
            found.append(JointModel(model, prefixes))
    return found


def hold_once(one: PreTrainedModel, other: PreTrainedModel) -> None:
    """Let ``other`` hold the tensors of ``one`` that its own equal, as those of LoRA's base that
    were not adapted: embeddings, norms."""
    known = dict(one.named_parameters())
    for name, tensor in other.named_parameters():
        if name in known and _same(tensor, known[name]):
            tensor.data = known[name].data


def count_shared_blocks(one: PreTrainedModel, other: PreTrainedModel) -> int:
    """How many lowest blocks of two models compute the same, bit by bit."""
    if not can_split(one):
        return 0
    if _computation(one) != _computation(other):
        return 0
    a, b = one.base_model, other.base_model
    if not _equal(a.embed_tokens, b.embed_tokens):
        return 0
    count = 0
    while count < len(a.layers) and _equal(a.layers[count], b.layers[count]):
        count += 1
    return count


def _computation(model: PreTrainedModel) -> dict[str, Any]:
    """What a model computes besides its tensors."""
    config = model.config.to_dict()
    return {key: value for key, value in config.items() if key not in PROVENANCE}


def _equal(one: nn.Module, other: nn.Module) -> bool:
    tensors, others = one.state_dict(), other.state_dict()
    return tensors.keys() == others.keys() and all(
        _same(tensor, others[name]) for name, tensor in tensors.items()
    )


def _same(one: Tensor, other: Tensor) -> bool:
    """Bit by bit, in one place; a tensor that is held already is not read."""
    if one.device != other.device or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.data_ptr() == other.data_ptr() or torch.equal(one, other)


def memory_bytes(model: PreTrainedModel) -> int:
    """What the key and value of one token take in one block."""
    config: Any = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * heads * width * model.dtype.itemsize)


def _distinct(asked: Sequence[Asked]) -> tuple[dict[tuple[int, ...], int], list[int]]:
    """Each sequence once with its row, and the members wanted."""
    sequences: dict[tuple[int, ...], int] = {}
    for one in asked:
        sequences.setdefault(tuple(one.ids), len(sequences))
    return sequences, sorted({one.member for one in asked})
