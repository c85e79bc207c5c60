"""A small reward model for experiments: hashed words and word pairs under one hidden layer.

It reads a pair in microseconds, so an experiment can train dozens of members in minutes. It is as
good as the length-only baseline and some points better, and shows a method's mechanism, not what a
large model gains by it.

Letters: N responses, F hashed features, H hidden units, P pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor, nn

from training import losses
from training.data.shapes import Pair
from training.length_bias.odin import LengthHead
from training.length_bias.product_of_experts import LengthExpert
from training.measure import Array

RESPONSE_FEATURES = 2**17
PROMPT_FEATURES = 2**13
HIDDEN = 48
LEARNING_RATE = 0.01
BATCH_PAIRS = 64


@dataclass(frozen=True)
class Texts:
    """Features (N, F) and characters (N,) of the distinct responses of some pairs, and where each
    pair's two stand, (P, 2): the chosen first."""

    features: csr_matrix
    characters: Array
    places: Array

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> "Texts":
        place: dict[tuple[Any, str], int] = {}
        places = [
            [
                place.setdefault((pair.turns, text), len(place))
                for text in (pair.chosen, pair.rejected)
            ]
            for pair in pairs
        ]
        prompts = ["\n".join(content for _, content in turns) for turns, _ in place]
        words, asked = (
            HashingVectorizer(n_features=count, ngram_range=ngrams, alternate_sign=False)
            for count, ngrams in ((RESPONSE_FEATURES, (1, 2)), (PROMPT_FEATURES, (1, 1)))
        )
        responses = words.transform([response for _, response in place])
        features = hstack([responses, asked.transform(prompts)], "csr", np.float32)
        return cls(features, np.array([len(text) for _, text in place]), np.array(places))


@dataclass(frozen=True)
class Labels:
    """What training is told of each pair of ``Texts``, arrays (P,): whether its sides are swapped,
    the lead that is wanted, the probability that the label is right."""

    swapped: Array
    target_margin: Array
    soft_label: Array

    @classmethod
    def given(cls, pairs: int) -> "Labels":
        return cls(np.zeros(pairs, bool), np.zeros(pairs), np.ones(pairs))


class BagOfWords(nn.Module):
    """``score = v . relu(W x + b)`` of features x (N, F); Adagrad suits its rare features."""

    def __init__(self, features: int, generator: torch.Generator):
        super().__init__()
        weight = torch.randn(features, HIDDEN, generator=generator) * 0.1
        self.words = nn.EmbeddingBag.from_pretrained(weight, freeze=False, mode="sum", sparse=True)
        self.bias = nn.Parameter(torch.zeros(HIDDEN))
        self.score = nn.Parameter(torch.randn(HIDDEN, generator=generator) * HIDDEN**-0.5)

    def forward(self, rows: csr_matrix) -> Tensor:
        """Scores (N,) of N rows of features."""
        return self.states(rows) @ self.score

    def states(self, rows: csr_matrix) -> Tensor:
        """What the head reads of N rows of features, (N, H)."""
        indices, starts, values = (
            torch.from_numpy(array) for array in (rows.indices, rows.indptr[:-1], rows.data)
        )
        hidden: Tensor = self.words(indices.long(), starts.long(), per_sample_weights=values)
        return torch.relu(hidden + self.bias)


@dataclass(frozen=True)
class Beside:
    """What is trained with the model to take the length from it, and how fast."""

    module: LengthExpert | LengthHead
    lr: float = LEARNING_RATE


def train(
    texts: Texts,
    labels: Labels,
    elements: Sequence[Array],
    epochs: int,
    seed: int,
    beside: Beside | None = None,
) -> Iterator[BagOfWords]:
    """The model after each epoch. Each element holds the indices of its pairs: one pair, or all of
    a prompt. The seed decides the first weights and the order of the elements; a batch has as many
    elements as make some 64 pairs."""
    generator = torch.Generator().manual_seed(seed)
    model = BagOfWords(texts.features.shape[1], generator)
    optimiser = torch.optim.Adagrad(model.parameters(), LEARNING_RATE)
    if beside is not None:
        optimiser.add_param_group({"params": [*beside.module.parameters()], "lr": beside.lr})
    # Said aloud, or Adagrad warns of it.
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    places = np.where(labels.swapped[:, None], texts.places[:, ::-1], texts.places)
    size = max(1, round(BATCH_PAIRS * len(elements) / sum(map(len, elements))))
    for _ in range(epochs):
        order = torch.randperm(len(elements), generator=generator).tolist()
        for start in range(0, len(order), size):
            batch = [elements[number] for number in order[start : start + size]]
            pairs = np.concatenate(batch)
            prompt = torch.from_numpy(np.repeat(np.arange(len(batch)), [len(e) for e in batch]))
            rows = places[pairs].T.ravel()
            states = model.states(texts.features[rows])
            scores, penalty = states @ model.score, torch.zeros(())
            if beside is not None:
                lengths = torch.from_numpy(texts.characters[rows]).float()
                own = beside.module(states, lengths)
                penalty = beside.module.penalty(model.score, scores, own, lengths)
                scores = scores + own
            chosen, rejected = scores.chunk(2)
            margin, label = (
                torch.from_numpy(known[pairs]).float()
                for known in (labels.target_margin, labels.soft_label)
            )
            costs = losses.bradley_terry(chosen, rejected, margin, 1 - label)
            optimiser.zero_grad()
            loss = losses.mean_over_prompts(costs, prompt) + penalty
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        yield model


def train_on_pairs(
    texts: Texts, labels: Labels, pairs: Array, epochs: int, seed: int
) -> BagOfWords:
    """A model of ``pairs``, indices of those to train on, after the last epoch."""
    *_, model = train(texts, labels, list(pairs[:, None]), epochs, seed)
    return model


@torch.no_grad()
def scores_of(model: BagOfWords, texts: Texts) -> Array:
    """Scores (N,) of all responses."""
    found: Array = model(texts.features).numpy().astype(np.float64)
    return found


@torch.no_grad()
def margins(model: BagOfWords, texts: Texts, pairs: Array) -> Array:
    """Margins (P,) of pairs by the labels that ``texts`` has."""
    scores = [
        model(texts.features[texts.places[pairs, side]]).numpy().astype(np.float64)
        for side in (0, 1)
    ]
    found: Array = scores[0] - scores[1]
    return found
