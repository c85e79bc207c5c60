"""The arms of the experiment ``length``: how each rewards responses.

Remedies for length: a curve of score over length taken off afterwards (arXiv:2409.17407), a product
of experts (arXiv:2310.05199), two heads (ODIN, arXiv:2402.07319), prompts with word limits
(arXiv:2406.17744). Letters: N responses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from plaudit.calibration import Calibration
from training.experiments import bag_of_words
from training.experiments.bag_of_words import (
    LEARNING_RATE,
    BagOfWords,
    Batch,
    Texts,
    adagrad,
    batches,
    pair_loss,
)
from training.experiments.length_data import Data, Judged
from training.length_bias import curve
from training.length_bias.odin import LengthHead
from training.length_bias.product_of_experts import LengthExpert
from training.measure import Array
from training.method_settings import Odin

EPOCHS = 2
SHARE = 0.3  # of the responses, in each local fit
# Of the bias expert; the model's own is .01. Adagrad's steps are about the rate.
EXPERT_RATES = (0.002, 0.02, 0.2)

PLAIN, LENGTH_ONLY = "untreated", "length-only"
HELD_OUT_CURVE, OWN_CURVE = "curve of held-out responses", "curve of the judged responses"
EXPERTS = [f"product of experts, rate {rate}" for rate in EXPERT_RATES]
SUM = f"{EXPERTS[-1]}: both"
ODIN, LIMITS = "two heads (ODIN)", "word limits"

# (N,) of the judged responses.
Rewards = Callable[[Judged], Array]


@dataclass(frozen=True)
class Beside:
    """What is trained with the model to take the length from it, and how fast."""

    module: LengthExpert | LengthHead
    lr: float = LEARNING_RATE


def arms(data: Data, seed: int) -> dict[str, Rewards]:
    """How each arm rewards responses, trained with one seed."""
    torch.manual_seed(seed)
    plain = trained(data, data.plain, seed)
    found: dict[str, Rewards] = {
        LENGTH_ONLY: lambda judged: judged.texts.characters.astype(float),
        PLAIN: partial(scores, plain),
        HELD_OUT_CURVE: partial(less_the_curve, plain, data.validation),
        OWN_CURVE: partial(less_the_curve, plain, None),
    }
    for name, rate in zip(EXPERTS, EXPERT_RATES, strict=True):
        beside = Beside(LengthExpert(), rate)
        model = trained(data, data.plain, seed, beside)
        found[name] = partial(scores, model)
    found[SUM] = partial(product, model, beside)
    head = LengthHead(bag_of_words.HIDDEN, Odin())
    found[ODIN] = partial(scores, trained(data, data.plain, seed, Beside(head)))
    found[LIMITS] = partial(scores, trained(data, data.limited, seed))
    return found


def trained(data: Data, pairs: Array, seed: int, beside: Beside | None = None) -> BagOfWords:
    if beside is None:
        return bag_of_words.train_on_pairs(data.texts, data.labels, pairs, EPOCHS, seed)
    generator = torch.Generator().manual_seed(seed)
    model = BagOfWords(data.texts.features.shape[1], generator)
    optimiser = adagrad(model.parameters())
    optimiser.add_param_group({"params": [*beside.module.parameters()], "lr": beside.lr})
    for _ in range(EPOCHS):
        for batch in batches(data.texts, data.labels, list(pairs[:, None]), generator):
            optimiser.zero_grad()
            loss = loss_beside(model, beside.module, data.texts, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return model


def loss_beside(
    model: BagOfWords, module: LengthExpert | LengthHead, texts: Texts, batch: Batch
) -> Tensor:
    """Pairs are ranked by the sum of both."""
    hidden = model.hidden(batch.rows)
    lengths = torch.from_numpy(texts.characters[batch.responses]).float()
    found, own = hidden @ model.score, module(hidden, lengths)
    penalty = module.penalty(model.score, found, own, lengths)
    return pair_loss(found + own, batch.judged) + penalty


def scores(model: BagOfWords, judged: Judged) -> Array:
    return bag_of_words.scores_of(model, judged.texts.features)


@torch.no_grad()
def product(model: BagOfWords, beside: Beside, judged: Judged) -> Array:
    """Of model and expert together, as they were trained."""
    lengths = torch.from_numpy(judged.texts.characters).float()
    own: Array = beside.module(lengths[:, None], lengths).numpy()
    return scores(model, judged) + own


def less_the_curve(model: BagOfWords, fitted_to: Judged | None, judged: Judged) -> Array:
    """Scores less the curve fitted to other responses, or (None) to the judged ones."""
    seen = judged if fitted_to is None else fitted_to
    knots = curve.fit(scores(model, seen), seen.texts.characters, SHARE)
    reward = Calibration("length", curve=knots).reward
    both = zip(scores(model, judged).tolist(), judged.texts.characters.tolist(), strict=True)
    return np.array([reward(score, length) for score, length in both])
