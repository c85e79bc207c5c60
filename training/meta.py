"""MetaRM: pair gradients from where shifted responses differ more in score (arXiv:2405.00438).

Letters: G prompts, k responses of each.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from plaudit.conversation import Encoder
from training.data import unlabelled
from training.data.unlabelled import Candidates, Unlabelled
from training.method_settings import MetaSettings
from training.settings import SettingsError, TrainSettings

Ids = tuple[int, ...]
Item = TypeVar("Item")


def difference(scores: Tensor) -> Tensor:
    """The difference objective of scores (G, k), the mean over prompts of
    ``2/k**2 * sum over i < j of sigmoid(|s_i - s_j|)``: from (k-1)/2k where all are equal, to
    (k-1)/k."""
    k = scores.shape[1]
    first, second = torch.triu_indices(k, k, offset=1, device=scores.device)
    gaps = (scores[:, first] - scores[:, second]).abs()
    return 2 / k**2 * torch.sigmoid(gaps).sum(dim=1).mean()


@contextmanager
def moved(
    weights: Sequence[Tensor], directions: Sequence[Tensor | None], step: float
) -> Iterator[None]:
    """Inside, each weight stands ``step`` along its direction; afterwards where it was, to the bit.

    Taking the step back would not do: ``(w + d) - d`` is not ``w`` in floating point.
    """
    pairs = zip(weights, directions, strict=True)
    along = [(weight, one) for weight, one in pairs if one is not None]
    before = [weight.detach().clone() for weight, _ in along]
    with torch.no_grad():
        for weight, direction in along:
            weight.add_(direction, alpha=step)
    try:
        yield
    finally:
        with torch.no_grad():
            for (weight, _), kept in zip(along, before, strict=True):
                weight.copy_(kept)


def draw(
    prompts: Sequence[Sequence[Item]], count: int, responses: int, seed: tuple[int, int]
) -> list[Item]:
    """k responses of each of G prompts, (G k), prompt by prompt.

    They follow from the seed, a run's and the number of a step, alone: a resumed run meets the
    same, the forwards of one optimiser step share them, and no other random number depends on them.
    """
    generator = np.random.default_rng(seed)
    found: list[Item] = []
    for place in generator.choice(len(prompts), count, replace=False):
        order = generator.choice(len(prompts[place]), responses, replace=False)
        found += [prompts[place][number] for number in order]
    return found


@dataclass(frozen=True)
class Shifted:
    """Prompts with at least k encoded responses each, and which of them come at which step."""

    source: Unlabelled
    prompts: Sequence[Sequence[Ids]]
    settings: MetaSettings
    seed: int

    @classmethod
    def read(cls, config: TrainSettings, encoder: Encoder) -> "Shifted | None":
        """The train side's prompts with enough responses within the length limit; None without
        ``meta``. Refuses fewer than a step takes."""
        if config.meta is None:
            return None
        source = unlabelled.load(config.meta.path)
        print(source.report(), flush=True)
        side = [one for one in source.prompts if config.split.side(one) == "train"]
        encoded = [fitting(one, config, encoder) for one in side]
        found = [ids for ids in encoded if len(ids) >= config.meta.responses]
        line = (
            f"{config.meta.path}: {len(found)} prompts to tell responses of apart; "
            f"{len(source.prompts) - len(side)} not on the train side, {len(side) - len(found)} "
            f"with fewer than {config.meta.responses} responses that fit"
        )
        print(line, flush=True)
        if len(found) < config.meta.prompts:
            raise SettingsError(f"{line}; meta.prompts is {config.meta.prompts}: lower it")
        return cls(source, found, config.meta, config.seed)

    def at(self, step: int) -> list[Ids]:
        """The responses of a step."""
        counts = self.settings.prompts, self.settings.responses
        return draw(self.prompts, *counts, seed=(self.seed, step))

    @property
    def provenance(self) -> dict[str, Any]:
        return {
            "data": self.source.digest,
            "prompts": len(self.prompts),
            "refused_rows": len(self.source.refused),
        }


def fitting(one: Candidates, config: TrainSettings, encoder: Encoder) -> list[Ids]:
    """The distinct token ids of its responses, cut or dropped as training pairs are."""
    limit = config.train_max_tokens or config.max_tokens
    short = Encoder(encoder.tokenizer, encoder.vocab_size, limit)
    every = [short.pair(one.prompt, response) for response in one.responses]
    if config.overlong == "cut":
        every = [short.fit(ids, config.truncation_side).ids for ids in every]
    return list(dict.fromkeys(tuple(ids) for ids in every if len(ids) <= limit))
