"""Two heads on shared states, one for quality and one for length (ODIN, arXiv:2402.07319).

Pairs are ranked by the sum of both, each pair by itself. The length head is drawn towards length,
the quality head away from it, and both away from each other; the quality head alone is served.

Letters: N responses, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from training.method_settings import Odin

# Keeps the gradient finite where all scores of a batch are alike.
EPSILON = 1e-6


class LengthHead(nn.Module):
    """The head that takes the length: ``w . state``."""

    def __init__(self, width: int, weights: Odin):
        super().__init__()
        self._weights = weights
        self.weight = nn.Parameter(torch.randn(width) * 0.1 * (width + 1) ** -0.5)

    def forward(self, states: Tensor, characters: Tensor) -> Tensor:
        """Its scores (N,) of states (N, D), in fp32; the lengths only stand in the penalty."""
        with torch.autocast(states.device.type, enabled=False):
            return states.float() @ self.weight

    def penalty(self, head: Tensor, scores: Tensor, own: Tensor, characters: Tensor) -> Tensor:
        """What keeps the quality head's weight (D,) and scores (N,), and this head's, apart."""
        away = length_penalty(scores, own, characters)
        return self._weights.length * away + self._weights.orthogonal * orthogonality(
            head, self.weight
        )


def correlation(scores: Tensor, characters: Tensor) -> Tensor:
    """Pearson's, of scores (N,) with lengths (N,); 0 where one of them is constant."""
    centred = scores - scores.mean()
    lengths = normalize(characters - characters.mean(), dim=0)
    return centred @ lengths / (centred.square().sum() + EPSILON).sqrt()


def length_penalty(quality: Tensor, length: Tensor, characters: Tensor) -> Tensor:
    """``|corr(quality, characters)| + 1 - corr(length, characters)`` over a batch, scores (N,)."""
    return correlation(quality, characters).abs() + 1 - correlation(length, characters)


def orthogonality(quality: Tensor, length: Tensor) -> Tensor:
    """``|cos|`` of the two heads' weights (D,)."""
    return cosine_similarity(quality, length, dim=0).abs()
