"""Averages of members that are scored without being written.

One model in memory takes the weights of one average after another, read from the members' files a
tensor at a time, summed and cast as :mod:`training.average` saves them: what is measured is what
would be saved. So memory is one model, however many members there are, with what their shared
blocks make of the pairs.

Letters: M members, P pairs, T tokens of a packed row, D width.
"""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from plaudit.batch import Batch, PackedBatch, batch_for
from plaudit.blocks import can_split, lower, upper, upper_states
from plaudit.checkpoint import CheckpointError, Manifest
from plaudit.forward import run_packed, scores
from plaudit.reward_model import RewardModel
from plaudit.scalar_head import apply_head
from training import average
from training.data.encoding import EncodedPair
from training.measure import Measured
from training.precision import measuring_dtype

MAX_TOKENS = 4096


class Prepared(NamedTuple):
    """A batch, where its sequences stand among all, and the states (1, T, D) under the blocks in
    which members differ; None where they share none."""

    positions: list[int]
    batch: Batch
    states: Tensor | None


class Blend:
    """``M`` members as one model: ``score`` gives the scores of their average by any coefficients.

    Blocks that all members share, those of a frozen trunk, are computed once, by ``prepare``.
    """

    def __init__(self, directories: Sequence[Path], manifest: Manifest):
        """``manifest`` is the first member's. Raises CheckpointError naming a tensor that members
        do not share."""
        self._model = RewardModel.open(directories[0], manifest, "", "auto", measuring_dtype())
        self.members = len(directories)
        self._files = average.files_of(directories)
        self._own = self._tensors_that_differ()
        self.shared_blocks = self._count_shared_blocks()
        classifier = self._model.classifier
        self._top = upper(classifier, self.shared_blocks) if self.shared_blocks else None

    def _tensors_that_differ(self) -> dict[str, Tensor]:
        """The tensors of the model in which members differ, by name."""
        held = self._model.classifier.state_dict()
        found = {}
        for paths in self._files:
            for name, tensors in average.side_by_side(paths):
                if name not in held:
                    raise CheckpointError(
                        f"{paths[0]}: Transformers turns tensor {name} into others when it loads "
                        "this architecture, so that members cannot be mixed in memory"
                    )
                first, *others = tensors
                if not all(_equal(first, other) for other in others):
                    found[name] = held[name]
        return found

    def _count_shared_blocks(self) -> int:
        """Lowest blocks, with the embeddings under them, in which no tensor differs."""
        classifier = self._model.classifier
        if not can_split(classifier):
            return 0
        own = {tensor.data_ptr() for tensor in self._own.values()}

        def is_shared(module: nn.Module) -> bool:
            return all(tensor.data_ptr() not in own for tensor in module.parameters())

        body = classifier.base_model
        if not is_shared(body.embed_tokens):
            return 0
        return len(list(takewhile(is_shared, body.layers)))

    @torch.inference_mode()
    def prepare(self, pairs: Sequence[EncodedPair]) -> list[Prepared]:
        """Batches of all chosen sequences, then all rejected ones, for ``score``."""
        sequences = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        classifier = self._model.classifier
        trunk = lower(classifier, self.shared_blocks) if self.shared_blocks else None
        found = []
        for positions in self._model.batches(sequences, MAX_TOKENS):
            batch = batch_for(classifier, [sequences[i] for i in positions])
            states = None
            if trunk is not None:
                assert isinstance(batch, PackedBatch)
                states = run_packed(trunk, batch, input_ids=batch.ids)
            found.append(Prepared(positions, batch, states))
        return found

    def score(self, coefficients: Sequence[float], prepared: Sequence[Prepared]) -> Measured:
        """Raw scores (P,) by ``sum_m coefficients[m] * weights_m``."""
        self._take(coefficients)
        found = np.empty(sum(len(one.positions) for one in prepared), np.float32)
        for positions, batch, states in prepared:
            found[positions] = self._scores(batch, states).cpu().numpy()
        chosen, rejected = np.split(found, 2)
        return Measured(chosen, rejected)

    def _take(self, coefficients: Sequence[float]) -> None:
        """Let the model hold an average; a member of coefficient 0 is not read."""
        used = [m for m, coefficient in enumerate(coefficients) if coefficient]
        for paths in self._files:
            parts = average.averaged(
                [paths[m] for m in used], [coefficients[m] for m in used], self._own
            )
            for name, tensor in parts:
                self._own[name].copy_(tensor)

    @torch.inference_mode()
    def _scores(self, batch: Batch, states: Tensor | None) -> Tensor:
        classifier = self._model.classifier
        if states is None:
            return scores(classifier, batch)
        assert self._top is not None
        assert isinstance(batch, PackedBatch)
        return apply_head(classifier, upper_states(self._top, batch, states))


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)
