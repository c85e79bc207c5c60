"""A reward model in torch: a checkpoint loaded on a device, and what it makes of sequences.

Letters: N sequences.
"""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from plaudit import attention, checkpoint, deterministic, flex, int8
from plaudit.batch import batch_for, can_pack
from plaudit.by_rows import run_by_rows
from plaudit.checkpoint import CheckpointError, Manifest
from plaudit.conversation import Encoder
from plaudit.forward import scores
from plaudit.packing import packed_batches, padded_batches
from plaudit.scalar_head import is_decoder, keep_head_fp32

log = logging.getLogger("plaudit")

Scores = np.ndarray[Any, np.dtype[np.float32]]
Device = Literal["auto", "cpu", "cuda"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What a body is loaded in; int8 is made of it (plaudit/int8.py).
LOADED_IN = {**DTYPES, int8.NAME: torch.bfloat16}


class RewardModel:
    """A loaded member: its manifest, its revision, its encoder and its forward."""

    def __init__(self, model: PreTrainedModel, encoder: Encoder, manifest: Manifest, revision: str):
        self.classifier = model.eval()
        if can_pack(model) and model.device.type == "cpu":
            run_by_rows(model)
        elif is_decoder(model) and not can_pack(model):
            say_padded(model.config.model_type)
        self.encoder = encoder
        self.manifest = manifest
        self.revision = revision

    @classmethod
    def load(
        cls,
        directory: str | Path,
        device: Device = "auto",
        dtype: str = "float32",
        max_tokens: int = 4096,
    ) -> "RewardModel":
        """Load a checkpoint (or a plain Hugging Face reward model, cut at ``max_tokens``)."""
        path = Path(directory)
        manifest, revision = checkpoint.describe(path, max_tokens)
        return cls.open(path, manifest, revision, device, dtype)

    @classmethod
    def open(
        cls, directory: Path, manifest: Manifest, revision: str, device: Device, dtype: str
    ) -> "RewardModel":
        """The weights of ``directory`` under a manifest that need not be on disk yet."""
        model = load_classifier(directory, LOADED_IN[dtype]).to(pick_device(device))
        if dtype == int8.NAME:
            int8.quantise(model)
        keep_head_fp32(model, directory)
        encoder = Encoder.load(directory, manifest.max_tokens)
        return cls(model, encoder, manifest, revision)

    def make_deterministic(self) -> None:
        """From now on no bit of a score depends on what else is in its forward."""
        self._refuse_padded("where a score depends on its neighbours", "--deterministic")
        deterministic.make_deterministic(self.classifier)

    def use_flex_attention(self) -> None:
        """From now on attention is torch's FlexAttention; it scores, and cannot train."""
        self._refuse_padded("with the attention of Transformers", "--attention flex")
        self.classifier.set_attn_implementation(flex.NAME)

    def _refuse_padded(self, how: str, option: str) -> None:
        if not self.packs:
            raise CheckpointError(
                f"{self.classifier.config.model_type} models run in padded batches, {how}: leave "
                f"{option} out"
            )

    @property
    def packs(self) -> bool:
        """Whether sequences of a batch share the computation of their common prefixes."""
        return can_pack(self.classifier)

    @torch.inference_mode()
    def score(self, sequences: Sequence[Sequence[int]]) -> Scores:
        """Raw scores (N,) of one batch, in order."""
        return scores(self.classifier, batch_for(self.classifier, sequences)).cpu().numpy()

    def batches(self, sequences: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
        """Positions of the sequences that go into each forward of at most ``max_tokens``."""
        plan = packed_batches if self.packs else padded_batches
        return plan(sequences, max_tokens)

    def score_all(self, sequences: Sequence[Sequence[int]], max_tokens: int = 4096) -> Scores:
        """Raw scores (N,) of any number of sequences, in order."""
        found = np.empty(len(sequences), np.float32)
        for batch in self.batches(sequences, max_tokens):
            found[batch] = self.score([sequences[i] for i in batch])
        return found


def load_classifier(directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The one-label classifier in ``directory``; a head that is not in the file is refused."""
    checkpoint.check_config(directory)
    checkpoint.weight_files(directory)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        directory,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if info["missing_keys"]:
        raise CheckpointError(
            f"{directory}: {sorted(info['missing_keys'])} not in the weights, so they would be "
            "random; train this model first: plaudit train"
        )
    return model


def pick_device(device: Device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


@cache
def say_padded(model_type: str) -> None:
    """Once for each type, since it costs speed and nothing else."""
    log.warning(
        "%s models run in padded batches: the packed forward is proven for %s",
        model_type,
        ", ".join(sorted(attention.PROVEN)),
    )
