"""A small reward model for experiments: hashed words and word pairs under one hidden layer.

It reads a pair in microseconds, so an experiment can train dozens of members in minutes. It is as
good as the length-only baseline and some points better, and shows a method's mechanism, not what a
large model gains by it.

Letters: N responses, F hashed features, H hidden units, P pairs.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor, nn

from training import losses
from training.data.batches import Judged
from training.data.shapes import Pair
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
        responses = [response for _, response in place]
        lengths = np.array([len(response) for response in responses])
        return cls(features_of(prompts, responses), lengths, np.array(places))


def features_of(prompts: Sequence[str], responses: Sequence[str]) -> csr_matrix:
    """Features (N, F) of N responses, each with its prompt."""
    words, asked = (
        HashingVectorizer(n_features=count, ngram_range=ngrams, alternate_sign=False)
        for count, ngrams in ((RESPONSE_FEATURES, (1, 2)), (PROMPT_FEATURES, (1, 1)))
    )
    return hstack([words.transform(responses), asked.transform(prompts)], "csr", np.float32)


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
    """``score = v . relu(W x + b)`` of features x (N, F); Adagrad suits its rare features. Dropout
    is on the hidden units, by torch's own random numbers."""

    def __init__(self, features: int, generator: torch.Generator, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        weight = torch.randn(features, HIDDEN, generator=generator) * 0.1
        self.words = nn.EmbeddingBag.from_pretrained(weight, freeze=False, mode="sum", sparse=True)
        self.bias = nn.Parameter(torch.zeros(HIDDEN))
        self.score = nn.Parameter(torch.randn(HIDDEN, generator=generator) * HIDDEN**-0.5)

    def forward(self, rows: csr_matrix) -> Tensor:
        """Scores (N,) of N rows of features."""
        return self.hidden(rows) @ self.score

    def hidden(self, rows: csr_matrix) -> Tensor:
        """What the score is a linear function of, (N, H)."""
        indices, starts, values = (
            torch.from_numpy(array) for array in (rows.indices, rows.indptr[:-1], rows.data)
        )
        hidden: Tensor = self.words(indices.long(), starts.long(), per_sample_weights=values)
        return nn.functional.dropout(
            torch.relu(hidden + self.bias), self.dropout, training=self.training
        )


class Batch(NamedTuple):
    """Rows (2P, F) of the responses of P pairs, all chosen ones first, which they are in ``Texts``,
    and the pairs."""

    rows: csr_matrix
    responses: Array
    judged: Judged


def batches(
    texts: Texts, labels: Labels, elements: Sequence[Array], generator: torch.Generator
) -> Iterator[Batch]:
    """One epoch in random order. Each element holds the indices of its pairs: one pair, or all of a
    prompt; a batch has as many elements as make some 64 pairs."""
    places = np.where(labels.swapped[:, None], texts.places[:, ::-1], texts.places)
    size = max(1, round(BATCH_PAIRS * len(elements) / sum(map(len, elements))))
    order = torch.randperm(len(elements), generator=generator).tolist()
    for start in range(0, len(order), size):
        batch = [elements[number] for number in order[start : start + size]]
        pairs = np.concatenate(batch)
        prompt = torch.from_numpy(np.repeat(np.arange(len(batch)), [len(e) for e in batch]))
        chosen, rejected = torch.arange(2 * len(pairs)).chunk(2)
        margin, label = (
            torch.from_numpy(known[pairs]).float()
            for known in (labels.target_margin, labels.soft_label)
        )
        responses = places[pairs].T.ravel()
        judged = Judged(chosen, rejected, prompt, margin, label)
        yield Batch(texts.features[responses], responses, judged)


def pair_loss(scores: Tensor, judged: Judged) -> Tensor:
    """The loss that ``plaudit train`` has without its terms."""
    costs = losses.bradley_terry(
        scores[judged.chosen],
        scores[judged.rejected],
        judged.target_margin,
        1 - judged.soft_label,
    )
    return losses.mean_over_prompts(costs, judged.prompt)


def adagrad(weights: Iterable[nn.Parameter], lr: float = LEARNING_RATE) -> torch.optim.Optimizer:
    # Said aloud, or Adagrad warns of it.
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    return torch.optim.Adagrad(weights, lr)


def step_through(
    model: BagOfWords, optimiser: torch.optim.Optimizer, epoch: Iterable[Batch]
) -> None:
    for batch in epoch:
        optimiser.zero_grad()
        loss = pair_loss(model(batch.rows), batch.judged)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def train(
    texts: Texts, labels: Labels, elements: Sequence[Array], epochs: int, seed: int
) -> Iterator[BagOfWords]:
    """The model after each epoch. The seed decides the first weights and the order of the
    elements."""
    generator = torch.Generator().manual_seed(seed)
    model = BagOfWords(texts.features.shape[1], generator)
    optimiser = adagrad(model.parameters())
    for _ in range(epochs):
        step_through(model, optimiser, batches(texts, labels, elements, generator))
        yield model


def train_on_pairs(
    texts: Texts, labels: Labels, pairs: Array, epochs: int, seed: int
) -> BagOfWords:
    """A model of ``pairs``, indices of those to train on, after the last epoch."""
    *_, model = train(texts, labels, list(pairs[:, None]), epochs, seed)
    return model


@torch.no_grad()
def averaged(models: Sequence[BagOfWords]) -> BagOfWords:
    """WARM: the uniform mean of the weights (arXiv:2401.12187)."""
    found = copy.deepcopy(models[0])
    for weight, *others in zip(*(model.parameters() for model in (found, *models)), strict=True):
        weight.copy_(torch.stack(others).mean(dim=0))
    return found


@torch.no_grad()
def scores_of(model: BagOfWords, features: csr_matrix) -> Array:
    """Scores (N,) of responses by their features (N, F)."""
    found: Array = model(features).numpy().astype(np.float64)
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
