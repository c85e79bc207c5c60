"""What a model scores on held-out pairs: statistics for the checkpoint, accuracy for the reader."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plaudit.calibration import Calibration
from plaudit.checkpoint import Stats, sha256
from plaudit.reward_model import RewardModel
from training.data.encoding import EncodedPair
from training.data.shapes import Pair

Array = np.ndarray[Any, np.dtype[Any]]
QUANTILES = np.arange(0.05, 1.0, 0.05)


@dataclass(frozen=True)
class Measured:
    """Raw scores (P,) of both responses of P pairs."""

    chosen: Array
    rejected: Array

    @property
    def accuracy(self) -> float:
        return accuracy(self.chosen - self.rejected)


def accuracy(margins: Array) -> float:
    """Share of pairs with a positive margin; a tie counts as wrong, as in RewardBench."""
    return float((margins > 0).mean())


def score_pairs(
    model: RewardModel, pairs: Sequence[EncodedPair], max_batch_tokens: int = 4096
) -> Measured:
    sequences = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    found = model.score_all(sequences, max_batch_tokens)
    return Measured(found[: len(pairs)], found[len(pairs) :])


def rewards(measured: Measured, calibration: Calibration, pairs: Sequence[Pair]) -> Measured:
    """The calibrated scores (P,) of both responses."""
    return Measured(
        calibrated(calibration, measured.chosen, (pair.chosen for pair in pairs)),
        calibrated(calibration, measured.rejected, (pair.rejected for pair in pairs)),
    )


def calibrated(calibration: Calibration, scores: Array, responses: Iterable[str]) -> Array:
    """Rewards (N,) of the raw scores (N,) of responses, as served."""
    both = zip(scores.tolist(), map(len, responses), strict=True)
    return np.array([calibration.reward(score, length) for score, length in both])


def stats(measured: Measured, reference: str, pairs: Sequence[Pair]) -> Stats:
    """Mean, std (ddof 1) and quantiles of the pooled scores, with the digest of what was scored."""
    pooled = np.concatenate([measured.chosen, measured.rejected]).astype(np.float64)
    texts = [f"{p.first_turn}\0{p.chosen}\0{p.rejected}".encode() for p in pairs]
    return Stats(
        reference=reference,
        reference_digest=sha256(*texts),
        count=len(pooled),
        mean=float(pooled.mean()),
        std=float(pooled.std(ddof=1)),
        quantiles=tuple(float(q) for q in np.quantile(pooled, QUANTILES)),
    )
