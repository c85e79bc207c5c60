"""The loss of RRHF (arXiv:2304.05302), of responses with rewards. Pure.

Letters: N responses of a batch, their prompts numbered.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu


class Loss(NamedTuple):
    """Means over the prompts of a batch."""

    ranking: Tensor
    likelihood: Tensor


def rrhf(log_probabilities: Tensor, rewards: Tensor, prompt: Tensor) -> Loss:
    """Of the length-normalised ``p`` (N,), rewards (N,) and the number of each one's prompt (N,).

    ``ranking`` is ``Σ max(0, p_i - p_j)`` over all pairs of a prompt with ``r_i < r_j``, without a
    margin; equal rewards rank nothing. ``likelihood`` is ``-p`` of the best response, of equal ones
    the first: the mean over its tokens, as the paper's code has it (over padding too, there), where
    the paper writes their sum.
    """
    count = len(torch.unique(prompt))
    together = prompt[:, None] == prompt
    worse = together & (rewards[:, None] < rewards)
    # p_i - p_j at [i, j]
    apart = relu(log_probabilities[:, None] - log_probabilities)
    earlier = torch.ones_like(worse).tril(-1)
    beaten = (worse | (together & earlier & (rewards[:, None] == rewards))).any(dim=1)
    return Loss(
        (apart * worse).sum() / count,
        -log_probabilities[~beaten].sum() / count,
    )
