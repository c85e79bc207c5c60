"""Ways to score one list of token-id sequences with one reward model, each as its users run it."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from plaudit.batch import PackedBatch
from plaudit.forward import scores
from plaudit.packing import pack, padded_batches
from plaudit.reward_model import RewardModel

Sequences = Sequence[Sequence[int]]
ROWS = 16
MAX_BATCH_TOKENS = 8192
UNSHARED, LIMIT = "plaudit, nothing shared", "matrix products alone"
# Tokens whose activations the matrix products of the speed limit run over at a time.
LIMIT_ROWS = 4096


class Contestant(Protocol):
    name: str

    def seconds(self, sequences: Sequences) -> float:
        """Time to score all of them, nothing known from before."""


class Plain:
    """Transformers with padding, 16 sequences at a time."""

    def __init__(self, name: str, directory: Path, by_length: bool):
        self.name, self._by_length = name, by_length
        self._model = AutoModelForSequenceClassification.from_pretrained(
            directory, dtype=torch.bfloat16
        ).eval()

    @torch.inference_mode()
    def seconds(self, sequences: Sequences) -> float:
        began = time.perf_counter()
        if self._by_length:
            for batch in padded_batches(sequences, MAX_BATCH_TOKENS):
                self._forward([sequences[i] for i in batch])
        else:
            for start in range(0, len(sequences), ROWS):
                self._forward(sequences[start : start + ROWS])
        return time.perf_counter() - began

    def _forward(self, rows: Sequences) -> None:
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        self._model(input_ids=ids, attention_mask=mask)


class Plaudit:
    """The packed forward under the server's default budget."""

    def __init__(self, model: RewardModel, name: str = "plaudit"):
        self.name, self._model = name, model

    def seconds(self, sequences: Sequences) -> float:
        began = time.perf_counter()
        self._model.score_all(sequences, MAX_BATCH_TOKENS)
        return time.perf_counter() - began

    def computed(self, sequences: Sequences) -> int:
        batches = self._model.batches(sequences, MAX_BATCH_TOKENS)
        return sum(len(pack([sequences[i] for i in batch]).ids) for batch in batches)


class Unshared:
    """The packed forward with every sequence by itself: what packing costs beside the limit."""

    name = UNSHARED

    def __init__(self, directory: Path):
        self._model = RewardModel.load(directory, "cpu", "bfloat16").classifier

    @torch.inference_mode()
    def seconds(self, sequences: Sequences) -> float:
        began = time.perf_counter()
        for batch in padded_batches(sequences, MAX_BATCH_TOKENS):
            rows = [sequences[i] for i in batch]
            longest = max(map(len, rows))
            scores(self._model, PackedBatch.of(rows, self._model.device, min_shared=longest + 1))
        return time.perf_counter() - began


class MatrixProducts:
    """The speed limit: the model's matrix products alone, for every token of every sequence."""

    name = LIMIT

    def __init__(self, directory: Path):
        model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            directory, dtype=torch.bfloat16
        )
        self._weights = [m.weight for m in model.base_model.modules() if isinstance(m, nn.Linear)]

    @torch.inference_mode()
    def seconds(self, sequences: Sequences) -> float:
        tokens = sum(map(len, sequences))
        inputs = {
            w.shape[1]: torch.randn(LIMIT_ROWS, w.shape[1], dtype=torch.bfloat16)
            for w in self._weights
        }
        began = time.perf_counter()
        for start in range(0, tokens, LIMIT_ROWS):
            rows = min(LIMIT_ROWS, tokens - start)
            for weight in self._weights:
                nn.functional.linear(inputs[weight.shape[1]][:rows], weight)
        return time.perf_counter() - began


class Vllm:
    """vLLM's AsyncLLM in its own environment, prefix caching on, all sequences asked for at once
    (bench/vllm_peer.py)."""

    def __init__(self, python: Path, directory: Path, max_tokens: int, block_size: int):
        self.name = f"vLLM, blocks of {block_size}"
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("vllm_peer.py"), directory, str(max_tokens),
             str(block_size)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"},
        )  # fmt: skip
        assert self._read() == "ready"

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> object:
        """The next line that is the peer's: its libraries print too."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("peer "):
                return json.loads(line.removeprefix("peer "))
        raise RuntimeError("the vLLM peer ended; see its errors above")

    def seconds(self, sequences: Sequences) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(sequences) + "\n")
        self._process.stdin.flush()
        found = self._read()
        assert isinstance(found, float)
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def median_seconds(
    contestants: Sequence[Contestant], sequences: Sequences, repeats: int
) -> dict[str, float]:
    """Medians of ``repeats`` rounds; in each, all contestants run one after another, and another
    begins."""
    found: dict[str, list[float]] = {one.name: [] for one in contestants}
    for turn in range(repeats):
        first = turn % len(contestants)
        for one in (*contestants[first:], *contestants[:first]):
            found[one.name].append(one.seconds(sequences))
    return {name: statistics.median(times) for name, times in found.items()}
