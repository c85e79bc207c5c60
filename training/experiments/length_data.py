"""What the rewards of the experiment ``length`` learn from and are judged on.

Letters: N responses, R rows of RM-Bench.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from training.data.shapes import Pair
from training.data.splits import Split
from training.evaluate.accuracy import is_right
from training.evaluate.styles import shares
from training.experiments.bag_of_words import Labels, Texts
from training.experiments.datasets import load_file, read
from training.length_bias.word_limits import with_limits
from training.measure import Array

SPLIT = Split(validation=0.15, test=0.3)
LIMITED = 0.5


@dataclass(frozen=True)
class Judged:
    """Responses to judge: features, lengths, and which pairs were judged. Of RM-Bench each row's
    nine pairs stand together, chosen styles before rejected ones."""

    texts: Texts
    pairs: list[Pair]

    @classmethod
    def of(cls, pairs: list[Pair]) -> "Judged":
        return cls(Texts.of(pairs), pairs)

    def right(self, rewards: Array) -> Array:
        """Whether each pair is ordered rightly by rewards (N,) of the responses."""
        chosen, rejected = rewards[self.texts.places].T
        return is_right(chosen, rejected)

    def styles(self, rewards: Array) -> Array:
        """Shares of rows (R, 4) by difficulty, for RM-Bench."""
        places = self.texts.places.reshape(-1, 3, 3, 2)
        return shares(rewards[places[:, :, 0, 0]], rewards[places[:, 0, :, 1]])

    def correlation(self, rewards: Array) -> float:
        return float(spearmanr(rewards, self.texts.characters).statistic)


@dataclass(frozen=True)
class Data:
    """Training pairs with limited twins, and what is judged."""

    texts: Texts
    labels: Labels
    plain: Array
    limited: Array
    validation: Judged
    test: Judged
    limits: Judged
    rm_bench: Judged

    @classmethod
    def of(cls, data: Path, share: float) -> "Data":
        pairs = read(data, "alpacaeval_lists", "win_probabilities", share)
        sides = {
            side: [pair for pair in pairs if SPLIT.side(pair) == side]
            for side in ("train", "validation", "test")
        }
        twins = with_limits(sides["train"], LIMITED)
        every = sides["train"] + twins
        labels = Labels(
            np.zeros(len(every), bool),
            np.array([pair.target_margin for pair in every]),
            np.array([pair.soft_label for pair in every]),
        )
        return cls(
            Texts.of(every),
            labels,
            np.arange(len(sides["train"])),
            np.arange(len(every)),
            Judged.of(sides["validation"]),
            Judged.of(sides["test"]),
            Judged.of(with_limits(sides["test"], 1.0)),
            Judged.of(load_file(data, "bench_rm_bench", "rm_bench").pairs),
        )
